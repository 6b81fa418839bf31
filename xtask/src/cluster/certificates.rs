//! Who is who in the cluster: an authority, a certificate for each program, and a kubeconfig for each client.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use super::layout::{API_ADDRESS, Layout};

/// Clients: file name, common name (the user), organisation (the group).
const CLIENTS: [(&str, &str, &str); 4] = [
    ("admin", "kubernetes-admin", "system:masters"),
    ("kube-controller-manager", "system:kube-controller-manager", ""),
    ("kube-scheduler", "system:kube-scheduler", ""),
    ("kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
];

/// Makes them all; they live as long as the cluster.
pub(super) fn make(layout: &Layout) -> anyhow::Result<()> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "kubernetes");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    fs::write(layout.certificate("ca.crt"), authority.self_signed(&key)?.pem())?;
    secret(&layout.certificate("ca.key"), &key.serialize_pem())?;
    let issuer = Issuer::new(authority, key);

    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
    let mut server = CertificateParams::new(names.map(str::to_owned))?;
    for address in [API_ADDRESS, "127.0.0.1"] {
        server.subject_alt_names.push(SanType::IpAddress(address.parse::<IpAddr>()?));
    }
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(layout, &issuer, "kube-apiserver", server)?;

    for (file, user, group) in CLIENTS {
        client(layout, &issuer, file, user, group)?;
    }
    for &node in layout.nodes() {
        client(layout, &issuer, node, &format!("system:node:{node}"), "system:nodes")?;
    }
    fs::copy(layout.certificate("admin.kubeconfig"), layout.kubeconfig())?;

    let accounts = KeyPair::generate()?;
    secret(&layout.certificate("accounts.key"), &accounts.serialize_pem())?;
    fs::write(layout.certificate("accounts.pub"), accounts.public_key_pem())?;
    Ok(())
}

fn client(layout: &Layout, issuer: &Issuer<'_, KeyPair>, file: &str, user: &str, group: &str) -> anyhow::Result<()> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, user);
    if !group.is_empty() {
        parameters.distinguished_name.push(DnType::OrganizationName, group);
    }
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(layout, issuer, file, parameters)?;
    let (address, port) = layout.api()?;
    let at = |ending: &str| layout.certificate(&format!("{file}.{ending}")).display().to_string();
    let text = format!(
        "apiVersion: v1
kind: Config
clusters:
- name: tensor-fusion
  cluster: {{server: 'https://{address}:{port}', certificate-authority: '{}'}}
users:
- name: {user}
  user: {{client-certificate: '{}', client-key: '{}'}}
contexts:
- name: tensor-fusion
  context: {{cluster: tensor-fusion, user: '{user}'}}
current-context: tensor-fusion
",
        layout.certificate("ca.crt").display(),
        at("crt"),
        at("key"),
    );
    fs::write(at("kubeconfig"), text)?;
    Ok(())
}

fn sign(
    layout: &Layout,
    issuer: &Issuer<'_, KeyPair>,
    file: &str,
    mut parameters: CertificateParams,
) -> anyhow::Result<()> {
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, issuer).with_context(|| format!("cannot sign `{file}`"))?;
    fs::write(layout.certificate(&format!("{file}.crt")), certificate.pem())?;
    secret(&layout.certificate(&format!("{file}.key")), &key.serialize_pem())
}

/// Writes a key that only its owner reads.
fn secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(())
}

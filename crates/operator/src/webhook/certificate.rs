//! Our own authority and certificate: made when there is none, replaced long before it ends, in a Secret that all operators read.
//!
//! A new authority is written into the webhook's configuration beside the old one *before* the Secret changes, so at every moment
//! the API server trusts whatever certificate an operator shows.

use std::collections::BTreeMap;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Name of the Secret.
pub const SECRET: &str = "tensor-fusion-webhook";
/// Name of the webhook's configuration.
pub const CONFIGURATION: &str = "tensor-fusion";
const YEAR: i64 = 365 * 24 * 3600;
/// Replaced when less than this is left.
const MARGIN: i64 = 90 * 24 * 3600;
const LOOK: Duration = Duration::from_secs(10);

/// An authority, and a certificate of its.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Authorities that are to be trusted, as PEM: this one, and the one before it.
    pub authorities: String,
    /// The certificate as PEM.
    pub certificate: String,
    /// Its key as PEM.
    pub key: String,
    /// Seconds since 1970 when it ends.
    pub end: i64,
}

/// Something about certificates failed.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It could not be made.
    #[error("the webhook's certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The API server's.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// It could not be used.
    #[error("the webhook's certificate cannot be used: {0}")]
    Use(#[from] std::io::Error),
}

impl Certificate {
    /// The authorities as DER. What is no certificate is left out.
    #[must_use]
    pub fn authorities(&self) -> Vec<Vec<u8>> {
        let all = CertificateDer::pem_slice_iter(self.authorities.as_bytes());
        all.filter_map(Result::ok).map(|one| one.to_vec()).collect()
    }

    /// Makes an authority and a certificate for these names, valid from the day before `now` (clocks differ) for a year.
    ///
    /// # Errors
    /// A name is no name.
    pub fn make(names: &[String], now: i64) -> Result<Self, rcgen::Error> {
        let day = |seconds: i64| {
            let utc = k8s_openapi::jiff::tz::TimeZone::UTC;
            let date = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(utc);
            let part = |number: i8| u8::try_from(number).unwrap_or(1);
            rcgen::date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
        };
        let (start, end) = (day(now - 24 * 3600), day(now + YEAR));
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.distinguished_name.push(DnType::CommonName, "Tensor Fusion webhook");
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (authority.not_before, authority.not_after) = (start, end);
        let authority_key = KeyPair::generate()?;
        let trusted = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);

        let mut server = CertificateParams::new(names.to_vec())?;
        server.distinguished_name.push(DnType::CommonName, names.first().map_or("webhook", String::as_str));
        server.use_authority_key_identifier_extension = true;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (server.not_before, server.not_after) = (start, end);
        let key = KeyPair::generate()?;
        // The authority's key is forgotten here: it signs this one certificate, ever.
        let certificate = server.signed_by(&key, &issuer)?.pem();
        Ok(Self { authorities: trusted, certificate, key: key.serialize_pem(), end: now + YEAR })
    }

    fn secret(&self, namespace: &str, version: Option<String>) -> Secret {
        let entry = |name: &str, text: &str| (name.to_owned(), ByteString(text.as_bytes().to_vec()));
        Secret {
            metadata: ObjectMeta {
                name: Some(SECRET.to_owned()),
                namespace: Some(namespace.to_owned()),
                resource_version: version,
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(BTreeMap::from([
                entry("ca.crt", &self.authorities),
                entry("tls.crt", &self.certificate),
                entry("tls.key", &self.key),
                entry("end", &self.end.to_string()),
            ])),
            ..Secret::default()
        }
    }

    fn read(secret: &Secret) -> Option<Self> {
        let text = |name: &str| String::from_utf8(secret.data.as_ref()?.get(name)?.0.clone()).ok();
        Some(Self {
            authorities: text("ca.crt")?,
            certificate: text("tls.crt")?,
            key: text("tls.key")?,
            end: text("end")?.parse().ok()?,
        })
    }
}

/// The first PEM of several.
fn newest(authorities: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----\n";
    authorities.find(END).and_then(|at| authorities.get(..at + END.len())).unwrap_or(authorities)
}

/// Sees to it that there is a certificate with something left, and that the API server trusts it. `leads`: only the leader
/// replaces one that ends; anybody makes the first.
///
/// # Errors
/// The API server's, or the names are no names.
pub async fn ensure(
    client: &Client,
    namespace: &str,
    names: &[String],
    leads: bool,
) -> Result<Certificate, CertificateError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let now = Timestamp::now().as_second();
    let there = secrets.get_opt(SECRET).await?;
    let known = there.as_ref().and_then(Certificate::read);
    if let Some(known) = &known
        && (known.end - now > MARGIN || !leads)
    {
        trust(client, &known.authorities).await?;
        return Ok(known.clone());
    }
    let mut made = Certificate::make(names, now)?;
    if let Some(known) = &known {
        made.authorities.push_str(newest(&known.authorities));
    }
    trust(client, &made.authorities).await?;
    let written = match &there {
        None => secrets.create(&PostParams::default(), &made.secret(namespace, None)).await,
        Some(there) => {
            let secret = made.secret(namespace, there.metadata.resource_version.clone());
            secrets.replace(SECRET, &PostParams::default(), &secret).await
        }
    };
    match written {
        Ok(_) => {
            tracing::info!(end = made.end, "made a certificate for the webhook");
            Ok(made)
        }
        // Another operator was quicker: its certificate counts.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let secret = secrets.get(SECRET).await?;
            let theirs = Certificate::read(&secret).unwrap_or(made);
            trust(client, &theirs.authorities).await?;
            Ok(theirs)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes the authorities into the webhook's configuration, if they are not there.
async fn trust(client: &Client, authorities: &str) -> Result<(), kube::Error> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let Some(mut configuration) = api.get_opt(CONFIGURATION).await? else {
        tracing::warn!(name = CONFIGURATION, "there is no MutatingWebhookConfiguration to write our authority into");
        return Ok(());
    };
    let bundle = Some(ByteString(authorities.as_bytes().to_vec()));
    let mut changed = false;
    for webhook in configuration.webhooks.iter_mut().flatten() {
        if webhook.client_config.ca_bundle != bundle {
            webhook.client_config.ca_bundle.clone_from(&bundle);
            changed = true;
        }
    }
    if !changed {
        return Ok(());
    }
    match api.replace(CONFIGURATION, &PostParams::default(), &configuration).await {
        // Somebody else wrote: looked at again soon.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        result => result.map(drop),
    }
}

/// What a server shows.
///
/// # Errors
/// The certificate is none.
pub async fn tls(certificate: &Certificate) -> Result<RustlsConfig, CertificateError> {
    Ok(RustlsConfig::from_pem(certificate.certificate.clone().into_bytes(), certificate.key.clone().into_bytes())
        .await?)
}

/// Keeps the server's certificate that of the Secret, for ever, and tells of a new one.
pub async fn keep(
    client: Client,
    namespace: String,
    names: Vec<String>,
    tls: RustlsConfig,
    mut shown: Certificate,
    leads: impl Fn() -> bool,
    tell: impl Fn(&Certificate),
) {
    loop {
        tokio::time::sleep(LOOK).await;
        match ensure(&client, &namespace, &names, leads()).await {
            Ok(now) if now.certificate == shown.certificate => {}
            Ok(now) => {
                match tls.reload_from_pem(now.certificate.clone().into_bytes(), now.key.clone().into_bytes()).await {
                    Ok(()) => {
                        tell(&now);
                        shown = now;
                    }
                    Err(error) => tracing::error!(%error, "the webhook's new certificate cannot be used"),
                }
            }
            Err(error) => tracing::warn!(%error, "the webhook's certificate could not be looked at"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_read_back_from_its_secret() {
        let names = ["tensor-fusion-operator.tensor-fusion-system.svc".to_owned()];
        let made = Certificate::make(&names, 1_800_000_000).unwrap();
        assert_eq!(Certificate::read(&made.secret("n", None)).unwrap(), made);
        assert_eq!(made.end, 1_800_000_000 + YEAR);
        assert!(made.key.contains("PRIVATE KEY") && made.authorities.ends_with("-----END CERTIFICATE-----\n"));
    }

    #[test]
    fn two_authorities_at_most_are_trusted() {
        let names = ["a.example".to_owned()];
        let [old, older] = [1, 2].map(|day| Certificate::make(&names, day * 86_400).unwrap().authorities);
        assert_eq!(newest(&format!("{old}{older}")), old);
        assert_eq!(newest(&old), old);
    }
}

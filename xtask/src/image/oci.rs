//! An OCI image layout in one tar file: one layer, and always the same bytes for the same files.
//!
//! Times are zero, owners are root and entries are in order, so a digest says what an image holds.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// One thing in the image's file system.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Folder { path: String },
    File { path: String, from: PathBuf, mode: u32 },
    Link { path: String, to: String },
}

impl Entry {
    pub(super) fn folder(path: &str) -> Self {
        Self::Folder { path: path.to_owned() }
    }

    pub(super) fn file(path: &str, from: impl Into<PathBuf>, mode: u32) -> Self {
        Self::File { path: path.to_owned(), from: from.into(), mode }
    }

    pub(super) fn link(path: &str, to: &str) -> Self {
        Self::Link { path: path.to_owned(), to: to.to_owned() }
    }

    fn path(&self) -> &str {
        match self {
            Self::Folder { path } | Self::File { path, .. } | Self::Link { path, .. } => path,
        }
    }
}

/// An image to be.
#[derive(Debug)]
pub(super) struct Image<'a> {
    /// Name and tag.
    pub(super) name: &'a str,
    /// Its files; folders that hold them are made by themselves.
    pub(super) entries: Vec<Entry>,
    pub(super) entrypoint: &'a [&'a str],
    /// `NAME=VALUE`.
    pub(super) environment: &'a [&'a str],
}

impl Image<'_> {
    /// Writes the archive, for `ctr images import` and its like.
    pub(super) fn write(&self, archive: &Path) -> anyhow::Result<()> {
        let layer = self.layer()?;
        let layer_digest = digest(&layer);
        let environment: Vec<&str> = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
            .iter()
            .chain(self.environment)
            .copied()
            .collect();
        let config = serde_json::to_vec(&json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Env": environment, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        }))?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        }))?;
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        entry["annotations"] = json!({"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": tag});
        entry["platform"] = json!({"architecture": "amd64", "os": "linux"});
        let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]}))?;

        // Beside its place and then moved there, so that nobody reads half of it.
        let fresh = archive.with_extension("new");
        let mut tar = tar::Builder::new(fs::File::create(&fresh)?);
        for (name, bytes) in [
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice()),
            ("index.json".to_owned(), &index),
            (blob(&digest(&manifest)), &manifest),
            (blob(&digest(&config)), &config),
            (blob(&layer_digest), &layer),
        ] {
            append(&mut tar, &name, bytes, 0o644)?;
        }
        tar.into_inner()?.flush()?;
        fs::rename(&fresh, archive)?;
        Ok(())
    }

    fn layer(&self) -> anyhow::Result<Vec<u8>> {
        let mut entries: BTreeMap<String, &Entry> = BTreeMap::new();
        let mut folders: BTreeMap<String, Entry> = BTreeMap::new();
        for entry in &self.entries {
            let mut parent = Path::new(entry.path()).parent();
            while let Some(folder) = parent.filter(|folder| !folder.as_os_str().is_empty()) {
                let name = folder.to_string_lossy().into_owned();
                folders.insert(name.clone(), Entry::folder(&name));
                parent = folder.parent();
            }
            entries.insert(entry.path().to_owned(), entry);
        }
        for (name, folder) in &folders {
            entries.entry(name.clone()).or_insert(folder);
        }
        let mut tar = tar::Builder::new(Vec::new());
        for (path, entry) in entries {
            match entry {
                Entry::Folder { .. } => {
                    // A sticky folder for temporary files, as everywhere.
                    let mode = if path == "tmp" { 0o1777 } else { 0o755 };
                    let mut header = header(0, mode);
                    header.set_entry_type(tar::EntryType::Directory);
                    tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Entry::File { from, mode, .. } => {
                    let bytes = fs::read(from).with_context(|| format!("no `{}`", from.display()))?;
                    append(&mut tar, &path, &bytes, *mode)?;
                }
                Entry::Link { to, .. } => {
                    let mut header = header(0, 0o777);
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, &path, to)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    tar.append_data(&mut header(u64::try_from(bytes.len())?, mode), name, bytes)?;
    Ok(())
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()})
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

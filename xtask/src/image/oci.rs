//! An OCI image layout in one tar file: one layer, and always the same bytes for the same files.
//!
//! Times are zero, owners are root and entries are in order, so a digest says what an image holds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
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
    /// Writes the archive, for `ctr images import` and its like, unless it holds just that.
    pub(super) fn write(&self, archive: &Path) -> anyhow::Result<()> {
        let entries = self.all_entries();
        let key = archive.with_extension("key");
        let now = self.key(&entries)?;
        if archive.is_file() && fs::read_to_string(&key).is_ok_and(|before| before == now) {
            return Ok(());
        }
        // Twice the same, so that gigabytes need neither memory nor another file: for its digest, and into its place.
        let mut measured = Measured::default();
        layer(&entries, &mut measured)?;
        let (layer_size, layer_digest) = (measured.size, hexadecimal(&measured.digest.finalize()));
        let usual = (!self.environment.iter().any(|one| one.starts_with("PATH="))).then_some(PATH);
        let environment: Vec<&str> = usual.iter().chain(self.environment).copied().collect();
        let config = serde_json::to_vec(&json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Env": environment, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        }))?;
        let config_digest = digest(&config);
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config_digest, config.len()),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer_digest, layer_size)],
        }))?;
        let manifest_digest = digest(&manifest);
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest_digest, manifest.len());
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        entry["annotations"] = json!({"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": tag});
        entry["platform"] = json!({"architecture": "amd64", "os": "linux"});
        let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]}))?;

        // Beside its place and then moved there, so that nobody reads half of it.
        let fresh = archive.with_extension("new");
        let mut tar = tar::Builder::new(BufWriter::new(fs::File::create(&fresh)?));
        for (name, bytes) in [
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice()),
            ("index.json".to_owned(), &index),
            (blob(&manifest_digest), &manifest),
            (blob(&config_digest), &config),
        ] {
            append(&mut tar, &name, bytes, 0o644)?;
        }
        // Its own size is a multiple of what things in a tar file are filled up to.
        tar.append_data(&mut header(u64::try_from(layer_size)?, 0o644), blob(&layer_digest), std::io::empty())?;
        layer(&entries, tar.get_mut())?;
        tar.into_inner()?.flush()?;
        fs::rename(&fresh, archive)?;
        fs::write(key, now)?;
        Ok(())
    }

    /// The entries in order, each once, with the folders that hold them.
    fn all_entries(&self) -> BTreeMap<String, Entry> {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for entry in &self.entries {
            for folder in Path::new(entry.path()).ancestors().skip(1) {
                let name = folder.to_string_lossy().into_owned();
                if !name.is_empty() {
                    entries.entry(name.clone()).or_insert(Entry::Folder { path: name });
                }
            }
            entries.insert(entry.path().to_owned(), entry.clone());
        }
        entries
    }

    /// Says what an archive was made of, as far as that can be said without reading it all: as `make` does, by time and size.
    fn key(&self, entries: &BTreeMap<String, Entry>) -> anyhow::Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!("{KEY}{:?}{:?}{:?}", self.name, self.entrypoint, self.environment));
        for entry in entries.values() {
            hash.update(format!("{entry:?}"));
            if let Entry::File { from, .. } = entry {
                let about = fs::metadata(from).with_context(|| format!("no `{}`", from.display()))?;
                hash.update(format!("{} {:?}", about.len(), about.modified()?));
            }
        }
        Ok(hexadecimal(&hash.finalize()))
    }
}

/// What programs are looked for in, where an image does not say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Another one for each change of how an archive comes of its entries.
const KEY: &str = "2";

fn layer(entries: &BTreeMap<String, Entry>, into: impl Write) -> anyhow::Result<()> {
    let mut tar = tar::Builder::new(into);
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
                let mut bytes = fs::read(from).with_context(|| format!("no `{}`", from.display()))?;
                if path.ends_with(".pyc") {
                    forget_time(&mut bytes);
                }
                append(&mut tar, path, &bytes, *mode)?;
            }
            Entry::Link { to, .. } => {
                let mut header = header(0, 0o777);
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, path, to)?;
            }
        }
    }
    tar.into_inner()?;
    Ok(())
}

/// Python takes a compiled file that tells the source's time, and all times in an image are zero (PEP 552).
fn forget_time(compiled: &mut [u8]) {
    if let Some(&mut [_, _, _, _, 0, 0, 0, 0, ref mut time @ ..]) = compiled.first_chunk_mut::<12>() {
        time.fill(0);
    }
}

/// Takes bytes for their digest and number.
#[derive(Default)]
struct Measured {
    digest: Sha256,
    size: usize,
}

impl Write for Measured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.digest.update(bytes);
        self.size += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
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

fn descriptor(kind: &str, digest: &str, size: usize) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size})
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiled_python_counts_for_a_source_without_time() {
        let mut compiled = *b"\xa7\x0d\x0d\x0a\0\0\0\0time\x05\0\0\0code";
        forget_time(&mut compiled);
        assert_eq!(&compiled, b"\xa7\x0d\x0d\x0a\0\0\0\0\0\0\0\0\x05\0\0\0code");
        // Those that go by the source's hash stay.
        let by_hash = *b"\xa7\x0d\x0d\x0a\x01\0\0\0hashhashcode";
        let mut compiled = by_hash;
        forget_time(&mut compiled);
        assert_eq!(compiled, by_hash);
    }
}

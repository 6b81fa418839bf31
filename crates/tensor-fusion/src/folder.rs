//! Where the node of this user and machine lives: its socket, state, logs, and what programs are given.
//!
//! `$TENSOR_FUSION_DIR`, else `$XDG_RUNTIME_DIR/tensor-fusion`, else `/tmp/tensor-fusion-UID`. Nobody else may enter it:
//! a folder in `/tmp` that belongs to somebody else is refused.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

/// The variable that moves the folder.
pub(crate) const VARIABLE: &str = "TENSOR_FUSION_DIR";

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Opens the folder, and makes it where it is missing.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let path = Self::place();
        let path = std::path::absolute(&path).with_context(|| format!("`{}`", path.display()))?;
        match DirBuilder::new().mode(0o700).recursive(true).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("`{}` cannot be made", path.display()));
            }
            _ => {}
        }
        let shown = path.display().to_string();
        let about = fs::symlink_metadata(&path).with_context(|| format!("`{shown}`"))?;
        if !about.is_dir() {
            bail!("`{shown}` is not a folder: expected a folder that belongs to you");
        }
        if about.uid() != crate::process::user() || about.mode() & 0o077 != 0 {
            bail!("`{shown}` can be entered by others: expected a folder of yours with mode 0700");
        }
        let folder = Self(path);
        if folder.socket().as_os_str().len() > 107 {
            bail!("`{shown}` is too long for a socket's path: expected at most 97 bytes");
        }
        Ok(folder)
    }

    fn place() -> PathBuf {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set(VARIABLE)
            .or_else(|| set("XDG_RUNTIME_DIR").filter(|path| path.is_dir()).map(|path| path.join("tensor-fusion")))
            .unwrap_or_else(|| PathBuf::from(format!("/tmp/tensor-fusion-{}", crate::process::user())))
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the node serves.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("node.sock")
    }

    /// Locked as long as a node runs.
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("node.lock")
    }

    /// What a node in the background says.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("node.log")
    }
}

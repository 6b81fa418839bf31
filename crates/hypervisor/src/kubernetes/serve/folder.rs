//! A pod's folder: one socket for each container, and a file `ready` once all are served. A file `software` says that the GPUs
//! are software, which runs nothing but PTX.
//!
//! The containers have the folder mounted, which holds its inode: it is never replaced while the pod lives, only what is in it.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A pod's folder.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Opens it, makes it if need be, and takes back that it is ready.
    pub(super) fn open(sockets: &Path, uid: &str) -> io::Result<Self> {
        let folder = Self(sockets.join(uid));
        fs::create_dir_all(&folder.0)?;
        // The kubelet may have made it for root alone; programs run as anybody.
        fs::set_permissions(&folder.0, Permissions::from_mode(0o755))?;
        remove_file(&folder.0.join("ready"));
        Ok(folder)
    }

    /// Where the worker of the `index`th container listens first. Short, because the path of a socket is at most 107 bytes, and the
    /// name of a container may be 63.
    pub(super) fn fresh(&self, index: usize) -> PathBuf {
        fresh(&self.0, index)
    }

    pub(super) fn socket(&self, container: &str) -> PathBuf {
        self.0.join(format!("{container}.sock"))
    }

    /// Tells the pod's init container that everything is served, and its programs whether by a software GPU.
    pub(super) fn mark_ready(&self, software: bool) -> io::Result<()> {
        if software {
            fs::write(self.0.join("software"), "")?;
        }
        fs::write(self.0.join("ready"), "")
    }

    pub(super) fn remove(&self) {
        remove(&self.0);
    }
}

fn fresh(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!(".{index}"))
}

/// Where the workers of a pod's containers listen first, its folder being open or not.
pub(super) fn endpoints(sockets: &Path, uid: &str, containers: usize) -> impl Iterator<Item = String> + use<> {
    let folder = sockets.join(uid);
    (0..containers).map(move |index| endpoint(&fresh(&folder, index)))
}

pub(super) fn endpoint(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// Lets everybody in the container use a worker's socket, under the name that they know.
pub(super) fn publish(fresh: &Path, socket: &Path) -> io::Result<()> {
    let published = fs::set_permissions(fresh, Permissions::from_mode(0o666)).and_then(|()| fs::rename(fresh, socket));
    match published {
        // That of a worker which was taken up again: an agent before this one has published it.
        Err(error) if error.kind() == io::ErrorKind::NotFound && socket.exists() => Ok(()),
        other => other,
    }
}

fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a leftover cannot be removed");
    }
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "a pod's folder cannot be removed");
    }
}

/// Removes the folders of all pods but these.
pub(super) fn remove_others(sockets: &Path, uids: &BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(sockets) else { return };
    for entry in entries.flatten() {
        if entry.path().is_dir() && !uids.iter().any(|uid| entry.file_name() == uid.as_str()) {
            remove(&entry.path());
        }
    }
}

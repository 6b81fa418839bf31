//! What must outlive the node's process: which names were given away, and who had what.
//!
//! Workers die with their node, so nothing is taken up again; but a name is never given twice, and what was lost is said.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use types::Vgpu;

/// The contents of the state file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The number of the next vGPU.
    pub next: u64,
    /// The vGPUs that there are.
    pub vgpus: Vec<Vgpu>,
}

/// The state file.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// The store in a folder that exists.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { path: folder.join("state.json") }
    }

    /// What was written last; nothing when there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn load(&self) -> io::Result<State> {
        match fs::read(&self.path) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces what was written before, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, state: &State) -> io::Result<()> {
        let fresh = self.path.with_extension("json.new");
        fs::write(&fresh, serde_json::to_vec_pretty(state)?)?;
        fs::rename(&fresh, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_junk_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(folder.path());
        assert_eq!(store.load().unwrap(), State::default());
        let state = State { next: 7, vgpus: Vec::new() };
        store.save(&state).unwrap();
        assert_eq!(store.load().unwrap(), state);
        fs::write(folder.path().join("state.json"), "junk").unwrap();
        assert!(store.load().is_err());
    }
}

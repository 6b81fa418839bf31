//! Tables of the objects that a program names by opaque pointers.
//!
//! A handle is the address of an object of ours, so libraries that compare handles with null or use them as keys are
//! content. It is only ever looked up, never followed: what is not in the table is not an object.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

const SHARDS: usize = 8;
/// How many removed objects keep their address (but nothing that they own), so that a handle used just after its end is
/// not mistaken for a younger object.
const RETIRED: usize = 64;

/// Spreads addresses: they are aligned, so their low bits say nothing.
#[derive(Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
}

type Shard<T> = RwLock<HashMap<u64, Arc<T>, BuildHasherDefault<AddressHasher>>>;

/// All live objects of one kind.
pub struct Handles<T> {
    shards: [Shard<T>; SHARDS],
    retired: Mutex<VecDeque<Weak<T>>>,
}

impl<T> std::fmt::Debug for Handles<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handles").finish_non_exhaustive()
    }
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Shard::default()), retired: Mutex::default() }
    }
}

/// The handle of an object: its address.
pub fn handle_of<T>(object: &Arc<T>) -> u64 {
    Arc::as_ptr(object) as u64
}

impl<T> Handles<T> {
    fn shard(&self, handle: u64) -> &Shard<T> {
        let [first, ..] = &self.shards;
        self.shards.get((handle >> 6) as usize % SHARDS).unwrap_or(first)
    }

    /// Enters an object and returns its handle.
    pub fn insert(&self, object: Arc<T>) -> u64 {
        let handle = handle_of(&object);
        self.shard(handle).write().insert(handle, object);
        handle
    }

    /// The object of a handle, if it lives.
    pub fn get(&self, handle: u64) -> Option<Arc<T>> {
        self.shard(handle).read().get(&handle).cloned()
    }

    /// Takes an object out.
    pub fn remove(&self, handle: u64) -> Option<Arc<T>> {
        let object = self.shard(handle).write().remove(&handle)?;
        self.retire(&object);
        Some(object)
    }

    /// Takes out all objects of which `unwanted` is true.
    pub fn remove_where(&self, mut unwanted: impl FnMut(&T) -> bool) -> Vec<Arc<T>> {
        let mut removed = Vec::new();
        for shard in &self.shards {
            shard.write().retain(|_, object| {
                let goes = unwanted(object);
                if goes {
                    removed.push(Arc::clone(object));
                }
                !goes
            });
        }
        for object in &removed {
            self.retire(object);
        }
        removed
    }

    /// All live objects.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.shards.iter().flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>()).collect()
    }

    fn retire(&self, object: &Arc<T>) {
        let mut retired = self.retired.lock();
        retired.push_back(Arc::downgrade(object));
        if retired.len() > RETIRED {
            retired.pop_front();
        }
    }
}

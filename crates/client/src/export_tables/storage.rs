//! Values that libraries keep with a context.
//!
//! The runtime looks here in nearly every call, so reading takes a shared lock only.

use std::collections::HashMap;

use cuda::types::{CUcontext, Host, StorageDestructor};
use cuda::{CuError, CuResult};
use parking_lot::RwLock;

type Values = HashMap<(CUcontext, Host), (Host, StorageDestructor)>;

static VALUES: RwLock<Option<Values>> = RwLock::new(None);

/// Keeps a value, with what to call when the context goes.
pub(super) fn put(context: CUcontext, key: Host, value: Host, destroy: StorageDestructor) {
    VALUES.write().get_or_insert_default().insert((context, key), (value, destroy));
}

/// Forgets a value without calling its destructor.
pub(super) fn delete(context: CUcontext, key: Host) -> CuResult {
    let removed = VALUES.write().as_mut().and_then(|values| values.remove(&(context, key)));
    removed.map(|_| ()).ok_or(CuError::INVALID_HANDLE)
}

/// A value that was put.
pub(super) fn get(context: CUcontext, key: Host) -> CuResult<Host> {
    let values = VALUES.read();
    values.as_ref().and_then(|values| values.get(&(context, key))).map(|entry| entry.0).ok_or(CuError::INVALID_HANDLE)
}

/// Destroys the values of a context that is about to be destroyed or reset.
pub(crate) fn forget_context(context: CUcontext) {
    let gone: Vec<_> = VALUES
        .write()
        .as_mut()
        .map_or_else(Vec::new, |values| values.extract_if(|(owner, _), _| *owner == context).collect());
    for ((context, key), (value, destroy)) in gone {
        if !destroy.is_null() && destroy.call(context, key, value).is_err() {
            tracing::error!("a value of context storage lost its destructor");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn values_live_as_long_as_their_context() {
        static DESTROYED: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn destroy(_: CUcontext, _: Host, value: Host) {
            DESTROYED.fetch_add(value.0, Ordering::Relaxed);
        }
        let (one, two) = (CUcontext(0x1001), CUcontext(0x1002));
        put(one, Host(1), Host(70), StorageDestructor(Some(destroy)));
        put(two, Host(1), Host(7), StorageDestructor(Some(destroy)));
        assert_eq!(get(one, Host(1)), Ok(Host(70)));
        assert_eq!(get(one, Host(2)), Err(CuError::INVALID_HANDLE));
        forget_context(one);
        assert_eq!(get(one, Host(1)), Err(CuError::INVALID_HANDLE));
        assert_eq!(DESTROYED.load(Ordering::Relaxed), 70);
        assert_eq!(delete(two, Host(1)), Ok(()));
        forget_context(two);
        assert_eq!(DESTROYED.load(Ordering::Relaxed), 70);
    }
}

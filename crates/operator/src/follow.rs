//! Following all objects of a kind: what there is, what changes, what goes, also across interrupted watches.

use std::collections::BTreeSet;
use std::fmt::Debug;

use futures::{StreamExt as _, pin_mut};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// News of an object.
#[derive(Clone, Debug)]
pub(crate) enum News<K> {
    /// It is there, or changed.
    Is(Box<K>),
    /// The object of this key is gone.
    Gone(String),
    /// Everything that was there at the start has been told.
    Complete,
}

/// `namespace/name` of an object: its key where a successor of the same name is to count as the same.
pub(crate) fn path<K: ResourceExt>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Follows all objects of a kind for ever. `key` names an object: what it gives must not be given to another object later,
/// unless the one is the other's successor.
pub(crate) async fn follow<K>(api: Api<K>, config: Config, key: impl Fn(&K) -> String, mut tell: impl FnMut(News<K>))
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut listed: BTreeSet<String> = BTreeSet::new();
    let stream = watcher(api, config).default_backoff();
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert(key(&object));
                tell(News::Is(Box::new(object)));
            }
            Ok(Event::InitDone) => {
                for gone in known.difference(&listed) {
                    tell(News::Gone(gone.clone()));
                }
                known = std::mem::take(&mut listed);
                tell(News::Complete);
            }
            Ok(Event::Apply(object)) => {
                known.insert(key(&object));
                tell(News::Is(Box::new(object)));
            }
            Ok(Event::Delete(object)) => {
                let gone = key(&object);
                known.remove(&gone);
                tell(News::Gone(gone));
            }
            Err(error) => {
                tracing::warn!(kind = std::any::type_name::<K>(), %error, "the watch was interrupted; it goes on");
            }
        }
    }
}

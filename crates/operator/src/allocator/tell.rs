//! Events on people's pods: why a pod waits, and what it got. Each is told once, again when it changes, and seldom otherwise.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;

use crate::event::{self, Kind};

/// Not more often than so about one pod.
const PAUSE: Duration = Duration::from_secs(20);
/// The same thing again after so long, for events are forgotten after an hour.
const REMINDER: Duration = Duration::from_secs(600);
/// So many a second in all, and so many at once.
const RATE: f64 = 20.0;
const BURST: f64 = 100.0;

/// See the module's text.
pub(super) struct Teller {
    client: Client,
    told: BTreeMap<String, (String, Instant)>,
    tokens: f64,
    filled: Instant,
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teller").field("told", &self.told.len()).finish_non_exhaustive()
    }
}

impl Teller {
    pub(super) fn new(client: Client) -> Self {
        Self { client, told: BTreeMap::new(), tokens: BURST, filled: Instant::now() }
    }

    /// Whether something about this pod may be told now: for who must work to find out what.
    pub(super) fn may_tell(&mut self, uid: &str, now: Instant) -> bool {
        self.tokens = (self.tokens + now.duration_since(self.filled).as_secs_f64() * RATE).min(BURST);
        self.filled = now;
        self.tokens >= 1.0 && self.told.get(uid).is_none_or(|(_, at)| now.duration_since(*at) >= PAUSE)
    }

    /// Tells why a pod waits.
    pub(super) fn waits(&mut self, pod: &Pod, reason: &'static str, text: &str, now: Instant) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let same = self.told.get(&uid).is_some_and(|(told, at)| told == text && now.duration_since(*at) < REMINDER);
        if same || !self.may_tell(&uid, now) {
            return;
        }
        self.told.insert(uid, (text.to_owned(), now));
        self.publish(pod, Kind::Warning, reason, text);
    }

    /// Tells something good, once.
    pub(super) fn says(&mut self, pod: &Pod, reason: &'static str, text: &str, now: Instant) {
        self.forget(pod.metadata.uid.as_deref().unwrap_or_default());
        if self.may_tell("", now) {
            self.publish(pod, Kind::Normal, reason, text);
        }
    }

    /// Tells what is done for a pod.
    pub(super) fn acts(&mut self, pod: &Pod, reason: &'static str, text: &str) {
        self.publish(pod, Kind::Normal, reason, text);
    }

    /// The pod is gone, or waits no more.
    pub(super) fn forget(&mut self, uid: &str) {
        self.told.remove(uid);
    }

    fn publish(&mut self, pod: &Pod, kind: Kind, reason: &'static str, text: &str) {
        self.tokens -= 1.0;
        let (client, pod, text) = (self.client.clone(), pod.clone(), text.to_owned());
        tokio::spawn(async move { event::publish(&client, &pod, kind, reason, &text).await });
    }
}

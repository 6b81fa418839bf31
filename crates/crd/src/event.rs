//! What happens to an object, told as an event of it: `kubectl describe` shows those. Made by ourselves: kube's recorder repeats
//! the first text for every later one of the same reason.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

/// Longer than an event's note may be: the API server's limit is 1024 bytes.
const LONGEST: usize = 1000;

/// How an event looks to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Normal,
    /// Somebody may want to do something.
    Warning,
}

/// Something to tell of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tidings<'a> {
    /// How it looks.
    pub tone: Tone,
    /// What was being done, in a word.
    pub action: &'a str,
    /// What came of it, in a word.
    pub reason: &'a str,
    /// For people.
    pub text: &'a str,
}

/// An event about an object, to be created in its namespace, or in `default` if it has none. `reporter` is the program, `instance`
/// which of its processes.
#[must_use]
pub fn event(about: ObjectReference, tidings: Tidings<'_>, reporter: &str, instance: &str, now: Timestamp) -> Event {
    let mut note: String = tidings.text.chars().take(LONGEST).collect();
    while note.len() > LONGEST {
        note.pop();
    }
    let name: String = about.name.as_deref().unwrap_or_default().chars().take(200).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: Some(about.namespace.clone().unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        },
        action: Some(tidings.action.to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(note),
        reason: Some(tidings.reason.to_owned()),
        regarding: Some(about),
        reporting_controller: Some(reporter.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        type_: Some(if tidings.tone == Tone::Normal { "Normal" } else { "Warning" }.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_letters_and_the_name_is_of_the_object() {
        let about = ObjectReference { name: Some("p".repeat(300)), ..ObjectReference::default() };
        let text = "ä".repeat(900);
        let tidings = Tidings { tone: Tone::Warning, action: "Serve", reason: "VgpuFailed", text: &text };
        let event = event(about, tidings, "r", "i", Timestamp::UNIX_EPOCH);
        assert_eq!(event.note.unwrap().len(), 1000);
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.metadata.name.unwrap(), format!("{}.0", "p".repeat(200)));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }
}

//! The log of the library: nothing unless `TENSOR_FUSION_LOG` names what to tell, in the syntax of `RUST_LOG`.
//!
//! Programs call us to the very end: the CUDA runtime cleans up when thread-local values, which the log's writer needs,
//! are gone already. From then on the thread is silent.

use std::cell::Cell;
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;

/// Starts the log at the first call into the library.
pub(crate) fn start() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let Ok(filter) = std::env::var("TENSOR_FUSION_LOG") else { return };
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .finish();
        if tracing::subscriber::set_global_default(WhileAlive(log)).is_err() {
            // A program that links us as a Rust library has a log of its own; ours goes there.
        }
    });
}

/// Says when this thread's values begin to go: values go in the reverse order of their making, and this one is made
/// after those of the writer.
struct Farewell;

impl Drop for Farewell {
    fn drop(&mut self) {
        GONE.set(true);
    }
}

thread_local! {
    // Without a destructor, so it can be asked to the end.
    static GONE: Cell<bool> = const { Cell::new(false) };
    static FAREWELL: Farewell = const { Farewell };
}

/// A log that ends with the thread's values.
struct WhileAlive<S>(S);

impl<S: Subscriber> Subscriber for WhileAlive<S> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !GONE.get() && self.0.enabled(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        self.0.event(event);
        // An error means that it is gone, and has said so.
        FAREWELL.try_with(|_| ()).unwrap_or(());
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Never "always": then nobody would ask `enabled`.
        let interest = self.0.register_callsite(metadata);
        if interest.is_never() { interest } else { Interest::sometimes() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.0.max_level_hint()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.0.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.0.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.0.record_follows_from(span, follows);
    }

    fn enter(&self, span: &Id) {
        self.0.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.0.exit(span);
    }
}

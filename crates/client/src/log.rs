//! The log of the library: nothing unless `TENSOR_FUSION_LOG` names what to tell, in the syntax of `RUST_LOG`.

use std::sync::OnceLock;

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
        if tracing::subscriber::set_global_default(log).is_err() {
            // A program that links us as a Rust library has a log of its own; ours goes there.
        }
    });
}

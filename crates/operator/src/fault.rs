//! Points at which a test may have the operator die, to show that nothing is lost or given twice.
//!
//! `TENSOR_FUSION_FAULT=after-bind` ends the process abruptly (no unwinding, no clean-up) when it comes to that point.
//! `TENSOR_FUSION_FAULT_SKIP=3` lets it pass three times first.

use std::sync::atomic::{AtomicU64, Ordering};

/// Every point, in the order in which a pod comes to them.
pub const POINTS: &[&str] = &[
    "after-place",
    "before-bind",
    "after-bind",
    "before-release",
    "after-release",
    "after-connection",
    "after-secret",
    "before-lift",
    "after-lift",
    "before-evict",
    "after-evict",
    "before-preempt",
    "after-preempt",
];

static PASSED: AtomicU64 = AtomicU64::new(0);

/// Dies here if that was asked for.
pub fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name));
    if std::env::var_os("TENSOR_FUSION_FAULT").is_none_or(|asked| asked != name) {
        return;
    }
    let skip = std::env::var("TENSOR_FUSION_FAULT_SKIP").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    if PASSED.fetch_add(1, Ordering::SeqCst) >= skip {
        tracing::error!(point = name, "dying at a fault point, as asked");
        std::process::abort();
    }
}

//! The table of the driver API and NVML: one row for each exported symbol.
//!
//! The rows come from two text files in `table/`: facts that `cargo xtask table` reads from NVIDIA's headers, and columns
//! that we write (see the head of `table/columns.txt`); the build script joins them. From the rows come the exports of
//! the client library, `cuGetProcAddress` and the coverage page.

include!(concat!(env!("OUT_DIR"), "/api.rs"));

/// What a call costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The client answers from its own books.
    Local,
    /// Answered from what opening the driver brought.
    Cached,
    /// Handed to the driver; an error may appear at a later call.
    OneWay,
    /// Needs the driver's answer.
    RoundTrip,
    /// Waits for work on the device.
    Blocking,
}

/// One exported symbol.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Name as exported, for example `cuMemcpyHtoD_v2_ptds`.
    pub symbol: &'static str,
    /// Name without version and suffix: what programs ask `cuGetProcAddress` for.
    pub base: &'static str,
    /// Which entry point of this name: 2 for `_v2`, 1 without a number.
    pub number: u32,
    /// The CUDA version that introduced this symbol, for example 3020; 0 for NVML.
    pub version: u32,
    /// Whether a null stream means the per-thread default stream.
    pub per_thread: bool,
    /// What a call costs; `None` when the front end does not implement it.
    pub class: Option<Class>,
    /// Part of the API, for the coverage page.
    pub area: &'static str,
}

/// Why `cuGetProcAddress` has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No implemented function has this name.
    Name,
    /// The name came with a later version than the asked one.
    Version,
}

/// The newest entry point of a name that CUDA `version` had, whether or not we implement it.
#[must_use]
pub fn newest(base: &str, version: u32, per_thread: bool) -> Option<&'static Function> {
    entry_points(base, per_thread)
        .filter(|function| function.version <= version)
        .max_by_key(|function| (function.number, function.per_thread))
}

/// Answers `cuGetProcAddress`: the newest entry point of `base` that CUDA `version` had.
///
/// A function that we do not implement is not found, even where an older entry point of the same name would be: its
/// arguments differ.
///
/// # Errors
/// When there is none.
pub fn find(base: &str, version: u32, per_thread: bool) -> Result<&'static Function, Missing> {
    match newest(base, version, per_thread) {
        Some(function) if function.class.is_some() => Ok(function),
        None if entry_points(base, per_thread).any(|function| function.class.is_some()) => Err(Missing::Version),
        _ => Err(Missing::Name),
    }
}

/// Symbols sort by name, so those of one base name stand close together.
fn entry_points(base: &str, per_thread: bool) -> impl Iterator<Item = &'static Function> {
    let start = CUDA.partition_point(|function| function.symbol < base);
    let candidates = CUDA.get(start..).unwrap_or_default().iter();
    candidates
        .take_while(move |function| function.symbol.starts_with(base))
        .filter(move |function| function.base == base && (per_thread || !function.per_thread))
}

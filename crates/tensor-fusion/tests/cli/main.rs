//! The command line through the binary: what it says, and what it leaves behind. No CUDA program runs here, so these
//! tests hold for any GPU.

#![expect(clippy::tests_outside_test_module, reason = "the whole file is tests")]

mod bench;
mod node;
mod run;
mod words;

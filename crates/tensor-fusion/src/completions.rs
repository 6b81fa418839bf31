//! `tensor-fusion completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{failure::Outcome, print};

/// Print a shell's completion script.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn main(self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Arguments::command(), "tensor-fusion", &mut script);
        Ok(print::text(&String::from_utf8_lossy(&script))?)
    }
}

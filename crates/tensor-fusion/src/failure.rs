//! What a command says when it fails: what is wrong, what helps, and the exit code.

use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failed {
    error: anyhow::Error,
    hint: Option<String>,
    code: u8,
}

/// What every command returns.
pub(crate) type Outcome = Result<ExitCode, Failed>;

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { error: error.into(), hint: None, code: 1 }
    }
}

impl Failed {
    /// A failure in words.
    pub(crate) fn new(error: impl std::fmt::Display) -> Self {
        Self { error: anyhow::anyhow!("{error}"), hint: None, code: 1 }
    }

    /// What a node answered.
    pub(crate) fn refused(failure: types::Failure) -> Self {
        Self { hint: failure.hint, ..Self::new(failure.error) }
    }

    /// Adds what helps.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Sets the exit code.
    pub(crate) fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// Tells people, or programs.
    pub(crate) fn report(self, json: bool) -> ExitCode {
        if json {
            let failure = types::Failure { error: format!("{:#}", self.error), hint: self.hint };
            eprintln!("{}", serde_json::to_string(&failure).unwrap_or(failure.error));
        } else {
            eprintln!("error: {:#}", self.error);
            if let Some(hint) = self.hint {
                eprintln!("hint: {hint}");
            }
        }
        ExitCode::from(self.code)
    }
}

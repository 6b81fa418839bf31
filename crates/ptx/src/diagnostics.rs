//! What is wrong with a PTX text, and where.

use crate::Position;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The module cannot be loaded.
    Error,
    /// It can, but somebody may want to know.
    Warning,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Where.
    pub at: Position,
    /// How bad.
    pub severity: Severity,
    /// What: lower case, the offending text in backticks, and what was expected.
    pub message: String,
}

impl Diagnostic {
    /// An error.
    pub fn error(at: Position, message: impl Into<String>) -> Self {
        Diagnostic { at, severity: Severity::Error, message: message.into() }
    }

    /// A warning.
    pub fn warning(at: Position, message: impl Into<String>) -> Self {
        Diagnostic { at, severity: Severity::Warning, message: message.into() }
    }
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}: {severity}: {}", self.at, self.message)
    }
}

/// Findings in the order of the text; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostics {
    first: Diagnostic,
    rest: Vec<Diagnostic>,
}

impl Diagnostics {
    /// A single finding.
    pub fn one(diagnostic: Diagnostic) -> Self {
        Diagnostics { first: diagnostic, rest: Vec::new() }
    }

    /// `Some` when there are any; sorted by position.
    pub fn collect(mut found: Vec<Diagnostic>) -> Option<Self> {
        found.sort_by_key(|diagnostic| diagnostic.at);
        let mut found = found.into_iter();
        let first = found.next()?;
        Some(Diagnostics { first, rest: found.collect() })
    }

    /// The earliest finding.
    pub fn first(&self) -> &Diagnostic {
        &self.first
    }

    /// All findings.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.first)?;
        for diagnostic in &self.rest {
            write!(f, "\n{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

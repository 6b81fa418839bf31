//! The token that says who may use a node or a worker: read from a file or the environment, never from arguments, which
//! everybody on a machine can read, and never shown.

use std::{fs, path::Path};

use types::Token;

use crate::failure::Failed;

/// The variable that holds a token.
pub(crate) const VARIABLE: &str = "TENSOR_FUSION_TOKEN";

/// The token in a file, else in the environment, else none.
pub(crate) fn given(file: Option<&Path>) -> Result<Option<Token>, Failed> {
    let (text, place) = match file {
        Some(path) => {
            let place = format!("`{}`", path.display());
            let text = fs::read_to_string(path).map_err(|error| Failed::new(format!("{place}: {error}")))?;
            (text, place)
        }
        None => match std::env::var(VARIABLE) {
            Ok(text) => (text, format!("`{VARIABLE}`")),
            Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(error) => return Err(Failed::new(format!("`{VARIABLE}`: {error}"))),
        },
    };
    let token = Token::new(text.trim()).map_err(|error| {
        Failed::new(format!("{place}: {error}")).hint("`head -c 24 /dev/urandom | base64` makes a token")
    })?;
    Ok(Some(token))
}

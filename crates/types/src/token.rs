//! Proof that somebody may use something.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret that both sides know. It is never shown: `Debug` hides it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

/// Why text is no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a token of {length} characters is not allowed: expected 16 to 1024 letters, digits and signs without spaces")]
pub struct ParseTokenError {
    length: usize,
}

impl Token {
    /// Checks what will be asked of clients: long enough not to be guessed, and fit for a header of HTTP.
    ///
    /// # Errors
    /// The text is too short, too long, or has spaces or signs beyond ASCII.
    pub fn new(text: &str) -> Result<Self, ParseTokenError> {
        let fits = (16..=1024).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(ParseTokenError { length: text.chars().count() }) }
    }

    /// Takes what a client was given to show, whatever it is; whether it is right, the other side knows.
    #[must_use]
    pub fn shown(text: String) -> Self {
        Self(text)
    }

    /// A token of random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(bytes)))
    }

    /// The secret itself, to be handed on.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether somebody showed the same. Takes equally long wherever the difference is.
    #[must_use]
    pub fn matches(&self, shown: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), shown.as_bytes());
        ours.len() == theirs.len()
            && std::hint::black_box(ours.iter().zip(theirs).fold(0, |all, (a, b)| all | (a ^ b))) == 0
    }

    /// The token of one of several users: made of its name and this token, which it does not tell. So each has its own, and
    /// whoever asks for this one needs no list of them. It is right for as long as this token is.
    #[must_use]
    pub fn for_user(&self, user: &str) -> Self {
        let key = blake3::derive_key("tensor-fusion 2026-11-25 token of one user", self.0.as_bytes());
        Self(format!("{user}.{}", blake3::keyed_hash(&key, user.as_bytes()).to_hex()))
    }

    /// Whether somebody showed this token, or one that was made of it for a user.
    #[must_use]
    pub fn admits(&self, shown: &str) -> bool {
        let of_user = || shown.rsplit_once('.').is_some_and(|(user, _)| self.for_user(user).matches(shown));
        self.matches(shown) || of_user()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_matches() {
        let token = Token::new("open-sesame-0123").unwrap();
        assert!(token.matches("open-sesame-0123"));
        for wrong in ["", "open-sesame-0124", "open-sesame-01234", "Open-sesame-0123"] {
            assert!(!token.matches(wrong), "{wrong}");
        }
    }

    #[test]
    fn it_is_not_shown_and_cannot_be_guessed() {
        assert_eq!(format!("{:?}", Token::new("open-sesame-0123").unwrap()), "Token(…)");
        assert_eq!(Token::from_random([7; 16]).reveal().len(), 32);
        for wrong in ["", "short", "with a space in it", "sixteen-chars-ü!", &"x".repeat(1025)] {
            assert!(Token::new(wrong).is_err(), "{wrong}");
        }
        assert!(Token::new("short").unwrap_err().to_string().starts_with("a token of 5 characters"));
    }

    #[test]
    fn each_user_has_a_token_that_tells_nothing_of_others() {
        let token = Token::new("open-sesame-0123").unwrap();
        let (ali, baba) = (token.for_user("ali"), token.for_user("baba"));
        assert!(token.admits("open-sesame-0123") && token.admits(ali.reveal()) && token.admits(baba.reveal()));
        assert!(Token::new(ali.reveal()).is_ok());
        assert!(
            ali != baba && !ali.admits(baba.reveal()) && !ali.admits(token.reveal()) && !token.matches(ali.reveal())
        );
        let proof = ali.reveal().strip_prefix("ali.").unwrap();
        let forged = format!("baba.{proof}");
        let other = Token::new("open-sesame-0124").unwrap().for_user("ali");
        for wrong in ["", ".", "ali", "ali.", proof, forged.as_str(), other.reveal()] {
            assert!(!token.admits(wrong), "{wrong}");
        }
    }
}

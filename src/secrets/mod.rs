//! Secrets: made, compared, sealed and kept out of sight.
//!
//! Cast: a [`Token`] is what a caller presents (a SCIM token or an API key) and is stored only as
//! its [`Digest`]; a [`WebhookSecret`] signs what we send and is stored sealed; the [`MasterKey`]
//! seals it and lives outside the database; a [`Signer`] signs what anybody may check.
//!
//! Invariants: nothing here prints its content (`Debug` is redacted, there is no `Display` and no
//! `Serialize`), secret text is wiped from memory on drop, and secrets are compared in constant
//! time. Called by the domain modules that own the rows, and by the composition root for the key.

mod master;
mod sealed;
mod signer;
mod token;

pub use master::MasterKey;
pub use signer::Signer;
pub use token::{Digest, Token, TokenKind};

use std::fmt;
use std::io;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const WEBHOOK_SECRET_PREFIX: &str = "whsec_";
const WEBHOOK_SECRET_BYTES: usize = 32;
const WEBHOOK_SECRET_TEXT_MIN: usize = 16;
const WEBHOOK_SECRET_TEXT_MAX: usize = 256;

/// What can go wrong with a secret; each text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The text is not a master key.
    #[error(
        "this is not a master key: expected rcmk_ followed by 43 characters of base64url; \
         `rollcall key new` prints a new one"
    )]
    NotAMasterKey,
    /// The text is not a webhook signing secret.
    #[error("this is not a webhook secret: expected whsec_ followed by printable characters")]
    NotAWebhookSecret,
    /// There is no key file, and none may be made.
    #[error("there is no master key file at {}; restore it from your backup of keys", path.display())]
    KeyFileMissing {
        /// Where the file was looked for.
        path: PathBuf,
    },
    /// Others than the owner can read the key file.
    #[error(
        "the master key file {} is open to other users (mode {mode:03o}); \
         run: chmod 600 {}", path.display(), path.display()
    )]
    KeyFileExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file exists but its content is no master key.
    #[error(
        "the master key file {} does not hold a master key (rcmk_ and 43 characters); \
         restore it from your backup of keys", path.display()
    )]
    KeyFileGarbled {
        /// The file.
        path: PathBuf,
    },
    /// The key file could not be read.
    #[error("the master key file {} cannot be read: {source}", path.display())]
    KeyFileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The key file could not be made.
    #[error("the master key file {} cannot be written: {source}", path.display())]
    KeyFileNotWritten {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The database was sealed with another master key.
    #[error(
        "the master key is not the one this database was set up with; \
         point master_key or master_key_file at the key that was last in use"
    )]
    WrongMasterKey,
    /// A sealed value was altered, moved to another row, or sealed with another key.
    #[error("a sealed value cannot be opened: it was altered, moved, or sealed with another key")]
    NotOpened,
}

/// The secret with which an endpoint's deliveries are signed: `whsec_` and Base64.
///
/// The `WorkOS` SDKs use the whole text as the key, Standard Webhooks the decoded bytes after the
/// prefix; one secret serves both.
#[derive(Clone)]
pub struct WebhookSecret(Zeroizing<String>);

impl WebhookSecret {
    /// Makes a secret of 256 random bits.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0_u8; WEBHOOK_SECRET_BYTES]);
        fill_random(bytes.as_mut_slice());
        let mut text = Zeroizing::new(String::with_capacity(WEBHOOK_SECRET_PREFIX.len() + 4 * 11));
        text.push_str(WEBHOOK_SECRET_PREFIX);
        STANDARD.encode_string(bytes.as_slice(), &mut text);
        Self(text)
    }

    /// Takes a secret made earlier, here or by another system.
    ///
    /// What follows the prefix need not be Base64: `WorkOS`'s own secrets are not, and receivers
    /// that move to us keep the one that they have.
    pub fn from_text(text: &str) -> Result<Self, SecretError> {
        let length_is_fine =
            (WEBHOOK_SECRET_TEXT_MIN..=WEBHOOK_SECRET_TEXT_MAX).contains(&text.len());
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.starts_with(WEBHOOK_SECRET_PREFIX) && length_is_fine && is_printable {
            Ok(Self(Zeroizing::new(String::from(text))))
        } else {
            Err(SecretError::NotAWebhookSecret)
        }
    }

    /// The whole text, for signing and for showing it once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WebhookSecret(…)")
    }
}

/// Fills the buffer from the operating system's generator.
///
/// # Panics
///
/// When the operating system has no randomness to give: nothing secret can be made then, and
/// going on with a predictable key would be worse than stopping.
fn fill_random(buffer: &mut [u8]) {
    if let Err(error) = getrandom::fill(buffer) {
        panic!("the operating system gives no random bytes: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_secret_is_32_bytes_of_base64_and_hides_itself() {
        let secret = WebhookSecret::generate();
        let encoded = secret.expose().strip_prefix("whsec_").unwrap();
        assert_eq!(STANDARD.decode(encoded).unwrap().len(), 32);
        assert_eq!(format!("{secret:?}"), "WebhookSecret(…)");
        assert_ne!(secret.expose(), WebhookSecret::generate().expose());
        assert_eq!(
            WebhookSecret::from_text(secret.expose()).unwrap().expose(),
            secret.expose()
        );
    }

    #[test]
    fn a_secret_made_by_workos_is_taken_and_nonsense_is_not() {
        assert!(WebhookSecret::from_text("whsec_0FWAiVGkEfGBqqsJH4aNAGBJ4").is_ok());
        for text in [
            "",
            "whsec_",
            "whsec_short",
            "0FWAiVGkEfGBqqsJH4aNAGBJ4",
            "whsec_a b c d e f g",
        ] {
            assert!(WebhookSecret::from_text(text).is_err(), "{text:?}");
        }
    }
}

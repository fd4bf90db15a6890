//! Signatures that anybody can check who has the public key: Ed25519 (RFC 8032).

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use zeroize::Zeroizing;

use super::{MasterKey, fill_random};

/// Signs with a key that comes from the master key, or with one of its own.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// The signer for one purpose.
    pub fn derived(master: &MasterKey, purpose: &str) -> Self {
        let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(master.derive(purpose).as_slice())
        else {
            unreachable!("any 32 bytes are an Ed25519 seed");
        };
        Self(pair)
    }

    /// What a new key is made from; it is the whole secret.
    pub fn new_seed() -> Zeroizing<[u8; 32]> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        fill_random(seed.as_mut_slice());
        seed
    }

    /// The signer made from a seed; `None` if it is none.
    pub fn from_seed(seed: &[u8]) -> Option<Self> {
        Ed25519KeyPair::from_seed_unchecked(seed).ok().map(Self)
    }

    /// What others need to check its signatures.
    pub fn public_key(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// The signature of `message`.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }

    /// Whether `signature` is its own of `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public_key())
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Signer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_key_and_purpose_only() {
        let master = MasterKey::generate();
        let signer = Signer::derived(&master, "heads");
        let signature = signer.sign(b"message");
        assert!(Signer::derived(&master, "heads").verify(b"message", &signature));
        assert!(!signer.verify(b"another", &signature));
        assert!(!Signer::derived(&master, "other").verify(b"message", &signature));
        let stranger = Signer::derived(&MasterKey::generate(), "heads");
        assert!(!stranger.verify(b"message", &signature));
    }
}

//! Sealing: XChaCha20-Poly1305 under a key derived for one purpose.
//!
//! A sealed value is `version (1 byte) | nonce (24 bytes) | ciphertext and tag`. The key is
//! HKDF-SHA256 (RFC 5869) of the master key with `rollcall/v1/` and the purpose. Purpose, the
//! caller's additional data (kind and row id) and the version are authenticated, so that a
//! ciphertext copied to another row or another column does not open. Nonces are random: 192 bits
//! make a collision a non-event, which a counter shared by many nodes could not promise.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{SecretError, fill_random};

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;

pub(super) fn seal(master: &[u8; 32], purpose: &str, aad: &str, plaintext: &[u8]) -> Vec<u8> {
    let mut nonce = [0_u8; NONCE_BYTES];
    fill_random(&mut nonce);
    let context = context(purpose, aad, VERSION);
    let payload = Payload {
        msg: plaintext,
        aad: context.as_bytes(),
    };
    let Ok(ciphertext) = cipher(master, purpose).encrypt(&nonce.into(), payload) else {
        // Only a plaintext of over 256 GiB is refused; none of ours can be.
        panic!("a value of {} bytes is too long to seal", plaintext.len());
    };
    let mut sealed = Vec::with_capacity(1 + NONCE_BYTES + ciphertext.len());
    sealed.push(VERSION);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&ciphertext);
    sealed
}

pub(super) fn open(
    master: &[u8; 32],
    purpose: &str,
    aad: &str,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let (&version, rest) = sealed.split_first().ok_or(SecretError::NotOpened)?;
    let (nonce, ciphertext) = rest
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(SecretError::NotOpened)?;
    if version != VERSION {
        return Err(SecretError::NotOpened);
    }
    let context = context(purpose, aad, version);
    let payload = Payload {
        msg: ciphertext,
        aad: context.as_bytes(),
    };
    // The cipher's own error carries nothing: it must not say what was wrong.
    cipher(master, purpose)
        .decrypt(&(*nonce).into(), payload)
        .map(Zeroizing::new)
        .or(Err(SecretError::NotOpened))
}

fn context(purpose: &str, aad: &str, version: u8) -> String {
    format!("{purpose}|{aad}|{version}")
}

fn cipher(master: &[u8; 32], purpose: &str) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&(*derive(master, purpose)).into())
}

pub(super) fn derive(master: &[u8; 32], purpose: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0_u8; 32]);
    let info = [b"rollcall/v1/", purpose.as_bytes()];
    if Hkdf::<Sha256>::new(None, master)
        .expand_multi_info(&info, key.as_mut_slice())
        .is_err()
    {
        // HKDF refuses more than 255 blocks of output; this is one.
        unreachable!("HKDF-SHA256 always gives 32 bytes");
    }
    key
}

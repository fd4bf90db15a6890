//! Bearer tokens: prefix, 256 random bits, checksum.
//!
//! A token reads `rc_scim_` or `sk_`, then 43 base62 characters drawn from the operating system,
//! then 6 base62 characters of CRC-32 over everything before them. The prefix lets secret scanners
//! find a leaked token, the checksum tells a typo from a revoked token without a query:
//! `rc_scim_[0-9A-Za-z]{49}` and `sk_[0-9A-Za-z]{49}`.
//!
//! Stored is only the [`Digest`]. It is a plain SHA-256, as 256 random bits need no slow hash, and
//! it covers the kind, so that a token stored as one kind can never be presented as another.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::fill_random;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 43 characters of 62 carry 256.03 bits.
const RANDOM_CHARACTERS: usize = 43;
/// 6 characters of 62 hold any 32-bit number.
const CHECKSUM_CHARACTERS: usize = 6;
const SUFFIX_CHARACTERS: usize = 4;
/// The largest multiple of 62 in a byte: bytes from here on are drawn again, since taking them
/// modulo 62 would favour the first characters.
const FAIR_BYTES: u8 = 248;

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// One directory, for an identity provider.
    Scim,
    /// The API, for the vendor's own back end.
    ApiKey,
}

impl TokenKind {
    /// What every token of this kind begins with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Scim => "rc_scim_",
            Self::ApiKey => "sk_",
        }
    }

    /// What goes into the digest. Never change these: stored digests depend on them.
    const fn tag(self) -> &'static str {
        match self {
            Self::Scim => "rollcall/v1/scim-token:",
            Self::ApiKey => "rollcall/v1/api-key:",
        }
    }
}

/// A bearer token in full. Shown once, when it is made.
#[derive(Clone)]
pub struct Token {
    kind: TokenKind,
    text: Zeroizing<String>,
}

impl Token {
    /// Makes a new token.
    pub fn generate(kind: TokenKind) -> Self {
        let length = kind.prefix().len() + RANDOM_CHARACTERS + CHECKSUM_CHARACTERS;
        let mut text = Zeroizing::new(String::with_capacity(length));
        text.push_str(kind.prefix());
        push_random_characters(&mut text);
        let checksum = checksum_of(&text);
        text.extend(checksum.iter().map(|byte| char::from(*byte)));
        Self { kind, text }
    }

    /// Reads a token of the given kind; `None` when it cannot be one.
    ///
    /// Forgives what people paste: surrounding white space, and a `Bearer ` that a form or an
    /// identity provider adds of its own.
    pub fn parse(kind: TokenKind, text: &str) -> Option<Self> {
        let text = without_scheme(text.trim());
        let body = text.strip_prefix(kind.prefix())?;
        if body.len() != RANDOM_CHARACTERS + CHECKSUM_CHARACTERS
            || !body.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return None;
        }
        let (covered, checksum) = text.split_at_checked(text.len() - CHECKSUM_CHARACTERS)?;
        (checksum.as_bytes() == checksum_of(covered)).then(|| Self {
            kind,
            text: Zeroizing::new(String::from(text)),
        })
    }

    /// What the token opens.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// What is stored and looked up in place of the token.
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(self.kind.tag());
        hash.update(self.text.as_bytes());
        Digest(hash.finalize().into())
    }

    /// The last four characters, by which people tell tokens apart.
    pub fn suffix(&self) -> &str {
        self.text
            .get(self.text.len() - SUFFIX_CHARACTERS..)
            .unwrap_or_default()
    }

    /// The whole text.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Token(…{})", self.suffix())
    }
}

/// The SHA-256 of a token and its kind.
///
/// Deliberately not `PartialEq`: comparing goes through [`Digest::matches`].
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The bytes, for a lookup.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The bytes, for a row.
    pub fn to_vec(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Is this the stored digest? In constant time; an empty or short one never matches.
    pub fn matches(&self, stored: &[u8]) -> bool {
        self.0.as_slice().ct_eq(stored).into()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Digest(…)")
    }
}

fn without_scheme(mut text: &str) -> &str {
    const SCHEME: &str = "bearer";
    // Some identity providers add the scheme to a value that was pasted with it: strip every one.
    while let Some((scheme, rest)) = text.split_once(char::is_whitespace) {
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            break;
        }
        text = rest.trim_start();
    }
    text
}

fn push_random_characters(text: &mut String) {
    let mut missing = RANDOM_CHARACTERS;
    while missing > 0 {
        let mut bytes = Zeroizing::new([0_u8; 64]);
        fill_random(bytes.as_mut_slice());
        for byte in bytes
            .iter()
            .filter(|byte| **byte < FAIR_BYTES)
            .take(missing)
        {
            text.push(character(u32::from(*byte)));
            missing -= 1;
        }
    }
}

fn checksum_of(text: &str) -> [u8; CHECKSUM_CHARACTERS] {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut checksum = [b'0'; CHECKSUM_CHARACTERS];
    for place in checksum.iter_mut().rev() {
        *place = character(rest) as u8;
        rest /= 62;
    }
    checksum
}

fn character(number: u32) -> char {
    ALPHABET
        .get((number % 62) as usize)
        .map_or('0', |byte| char::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with Python: prefix + 43 characters + base62(zlib.crc32(...), 6).
    const KNOWN: &str = "rc_scim_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg0OAPgj";
    const KNOWN_DIGEST_START: &str = "1a53d09424d57efdde53c608a0617360";

    #[test]
    fn a_token_reads_back_and_has_the_published_shape() {
        for kind in [TokenKind::Scim, TokenKind::ApiKey] {
            let token = Token::generate(kind);
            let body = token.expose().strip_prefix(kind.prefix()).unwrap();
            assert_eq!(body.len(), 49);
            assert!(body.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            let read = Token::parse(kind, token.expose()).unwrap();
            assert!(read.digest().matches(token.digest().as_bytes()));
            assert_ne!(token.expose(), Token::generate(kind).expose());
        }
    }

    #[test]
    fn checksum_and_digest_are_the_ones_computed_elsewhere() {
        let token = Token::parse(TokenKind::Scim, KNOWN).unwrap();
        let expected = u128::from_str_radix(KNOWN_DIGEST_START, 16)
            .unwrap()
            .to_be_bytes();
        assert_eq!(token.digest().as_bytes()[..16], expected);
    }

    #[test]
    fn what_people_paste_around_a_token_is_forgiven() {
        let token = Token::generate(TokenKind::Scim);
        let text = token.expose();
        for pasted in [
            format!("  {text}\r\n"),
            format!("Bearer {text}"),
            format!("bearer\t{text} "),
            format!(" BEARER  Bearer {text}"),
        ] {
            let read = Token::parse(TokenKind::Scim, &pasted);
            assert!(read.is_some_and(|read| read.expose() == text), "{pasted:?}");
        }
    }

    #[test]
    fn a_typo_a_cut_and_the_other_kind_are_refused() {
        let token = Token::generate(TokenKind::Scim);
        let text = token.expose();
        assert!(Token::parse(TokenKind::ApiKey, text).is_none());
        for index in TokenKind::Scim.prefix().len()..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[index] = if bytes[index] == b'a' { b'b' } else { b'a' };
            let typo = String::from_utf8(bytes).unwrap();
            assert!(Token::parse(TokenKind::Scim, &typo).is_none(), "{index}");
        }
        let cut = text.split_at(text.len() - 1).0;
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "rc_scim_",
            cut,
            &format!("{text}0"),
            &"é".repeat(40),
        ] {
            assert!(Token::parse(TokenKind::Scim, wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_digest_depends_on_the_kind_and_never_matches_the_empty_one() {
        let text = Zeroizing::new(String::from("the same text"));
        let scim = Token {
            kind: TokenKind::Scim,
            text: text.clone(),
        };
        let api_key = Token {
            kind: TokenKind::ApiKey,
            text,
        };
        assert!(!scim.digest().matches(api_key.digest().as_bytes()));
        assert!(!scim.digest().matches(&[]));
        assert!(!scim.digest().matches(&scim.digest().as_bytes()[..31]));
        assert!(scim.digest().matches(&scim.digest().to_vec()));
    }

    #[test]
    fn debug_shows_four_characters_at_most() {
        let token = Token::generate(TokenKind::ApiKey);
        assert_eq!(format!("{token:?}"), format!("Token(…{})", token.suffix()));
        assert_eq!(token.suffix().len(), 4);
        assert!(token.expose().ends_with(token.suffix()));
        assert_eq!(format!("{:?}", token.digest()), "Digest(…)");
    }

    #[test]
    fn every_character_is_drawn_about_equally_often() {
        let mut counts = [0_u32; 128];
        for _ in 0..2_000 {
            let token = Token::generate(TokenKind::ApiKey);
            token
                .expose()
                .bytes()
                .skip(3)
                .take(43)
                .for_each(|b| counts[usize::from(b)] += 1);
        }
        // 86,000 characters over 62: 1,387 each, a standard deviation of 37.
        for byte in ALPHABET {
            let count = counts[usize::from(*byte)];
            assert!(
                (1_100..1_700).contains(&count),
                "{} {count}",
                char::from(*byte)
            );
        }
    }
}

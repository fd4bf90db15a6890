//! Folded text: the one form in which names are compared without case.
//!
//! SQL never compares case here. `lower('Ä')` gives different answers on the two databases, and
//! `LIKE` respects case on one and not on the other. So whatever SCIM compares without case
//! (`userName`, `displayName`, email addresses) is stored a second time as a *key* made by [`fold`],
//! and the database only ever compares keys for equality. In-memory filters use the same function,
//! so that a query answered by the database and one answered in memory agree.

use unicode_normalization::UnicodeNormalization as _;

/// Folds a text into its comparison key: NFKC, then full lower case, then one form of sigma.
///
/// NFKC makes the composed and the decomposed `é` one text, as well as full-width and ordinary
/// letters. Lower case is Unicode's, not ASCII's. Final and ordinary sigma are the same letter.
/// White space is kept: whether ` bob` may be a name is for the caller to decide.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let composed: String = text.nfkc().collect();
    composed.to_lowercase().replace('ς', "σ")
}

/// Tells whether two texts have the same key, without building the keys when both are ASCII.
pub fn equal(left: &str, right: &str) -> bool {
    if left.is_ascii() && right.is_ascii() {
        return left.eq_ignore_ascii_case(right);
    }
    fold(left) == fold(right)
}

#[cfg(test)]
mod tests {
    use super::{equal, fold};

    #[test]
    fn ascii_and_unicode_letters_fold() {
        assert_eq!(fold("Bjensen@Example.COM"), "bjensen@example.com");
        assert_eq!(fold("ÄÖÜ"), "äöü");
        assert_eq!(fold("ΟΔΟΣ"), fold("οδος"));
        assert_eq!(fold("ΟΔΟΣ"), fold("οδοσ"));
    }

    #[test]
    fn composed_and_decomposed_letters_are_equal() {
        assert!(equal("Jose\u{301}", "JOSÉ"));
        assert!(equal("ＡＢＣ", "abc"));
        assert!(!equal("jose", "josé"));
    }

    #[test]
    fn white_space_is_kept() {
        assert_eq!(fold(" Bob "), " bob ");
    }

    #[test]
    fn folding_twice_changes_nothing() {
        for text in ["İstanbul", "Straße", "Σ", "ǅ", "ﬁ", "K"] {
            assert_eq!(fold(&fold(text)), fold(text), "{text}");
        }
    }
}

//! Choices that look random and can be made again.

use super::postgres::environment;

/// A generator of reproducible choices (SplitMix64); its seed is printed, and can be given in
/// `ROLLCALL_TEST_SEED`.
#[derive(Clone, Debug)]
pub(crate) struct Choices(u64);

impl Choices {
    /// With the seed from the environment, or one of its own.
    pub(crate) fn seeded(test: &str) -> Self {
        let given = environment("ROLLCALL_TEST_SEED").and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 0x5EED);
        eprintln!("{test}: ROLLCALL_TEST_SEED={seed}");
        Self(seed)
    }

    /// Another generator, unrelated to this one.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a small number");
        usize::try_from(self.next() % end).expect("a small number")
    }

    /// One of `values`.
    pub(crate) fn one_of<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.below(values.len())]
    }
}

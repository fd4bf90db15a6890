//! Text into tokens, by winnow parsers that do not recurse.

use std::fmt;

use winnow::ascii::digit1;
use winnow::combinator::{alt, opt, repeat};
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location as _};
use winnow::token::{any, none_of, one_of, take_while};

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) problem: String,
    /// Counted in characters from 1; `None` when the fault is that of the whole.
    pub(super) position: Option<usize>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        self.position
            .map_or(Ok(()), |position| write!(f, " at position {position}"))
    }
}

/// The smallest units of a filter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'i> {
    Open,
    Close,
    OpenBracket,
    CloseBracket,
    Dot,
    /// An attribute path, a connective, an operator or a literal without quotes.
    Word(&'i str),
    /// A JSON string with its quotes.
    Text(&'i str),
    /// A JSON number.
    Number(&'i str),
}

type Input<'i> = LocatingSlice<&'i str>;

fn token<'i>(input: &mut Input<'i>) -> winnow::Result<Token<'i>> {
    alt((
        '('.value(Token::Open),
        ')'.value(Token::Close),
        '['.value(Token::OpenBracket),
        ']'.value(Token::CloseBracket),
        '.'.value(Token::Dot),
        word.map(Token::Word),
        quoted.map(Token::Text),
        number.map(Token::Number),
    ))
    .parse_next(input)
}

fn word<'i>(input: &mut Input<'i>) -> winnow::Result<&'i str> {
    let first = |letter: char| letter.is_ascii_alphabetic() || letter == '$';
    let other = |letter: char| letter.is_ascii_alphanumeric() || "-_.:$".contains(letter);
    (one_of(first), take_while(0.., other))
        .take()
        .parse_next(input)
}

fn quoted<'i>(input: &mut Input<'i>) -> winnow::Result<&'i str> {
    let plain = none_of(['"', '\\']).void();
    let escaped = ('\\', any).void();
    let body = repeat::<_, _, (), _, _>(0.., alt((plain, escaped)));
    ('"', body, '"').take().parse_next(input)
}

fn number<'i>(input: &mut Input<'i>) -> winnow::Result<&'i str> {
    let whole = alt((
        "0".void(),
        (one_of('1'..='9'), take_while(0.., '0'..='9')).void(),
    ));
    let fraction = opt(('.', digit1));
    let exponent = opt((one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1));
    (opt('-'), whole, fraction, exponent)
        .take()
        .parse_next(input)
}

fn space(input: &mut Input<'_>) -> winnow::Result<()> {
    take_while(0.., char::is_whitespace)
        .void()
        .parse_next(input)
}

/// All tokens of a text, each with the byte where it starts.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token<'_>, usize)>, Fault> {
    let mut input = LocatingSlice::new(text);
    let mut found = Vec::new();
    loop {
        if space.parse_next(&mut input).is_err() || input.is_empty() {
            return Ok(found);
        }
        let start = input.current_token_start();
        let Ok(token) = token.parse_next(&mut input) else {
            let broken_text = text.get(start..).is_some_and(|rest| rest.starts_with('"'));
            let problem = if broken_text {
                "a string has no closing quote"
            } else {
                "an unexpected character"
            };
            return Err(fault_at(text, problem, start));
        };
        found.push((token, start));
    }
}

/// A fault at a byte of a text.
pub(super) fn fault_at(text: &str, problem: &str, byte: usize) -> Fault {
    let before = text.get(..byte).unwrap_or(text);
    Fault {
        problem: problem.to_owned(),
        position: Some(before.chars().count() + 1),
    }
}

//! Tokens into a [`Filter`]: a Pratt parser.
//!
//! The grammar stands in the documentation of [`super`]. Open parentheses and brackets are counted
//! before the parser goes into them, so its stack is bounded by [`NESTING_MAX`], whatever the text.

use serde_json::Number;

use super::token::{Fault, Token, fault_at, tokens};
use super::{AttributePath, BYTES_MAX, COMPARISONS_MAX, CompareOp, Filter, Literal, NESTING_MAX};

/// A PATCH path: an attribute, perhaps with a filter on its elements.
#[derive(Debug)]
pub(super) struct ParsedPath {
    pub(super) attribute: AttributePath,
    pub(super) filter: Option<Filter>,
}

/// Reads a filter.
pub(super) fn read_filter(text: &str) -> Result<Filter, Fault> {
    let mut cursor = Cursor::over(text)?;
    let filter = cursor.expression(Binding::Loose)?;
    cursor.expect_end()?;
    Ok(filter)
}

/// Reads a PATCH path (RFC 7644 section 3.5.2).
pub(super) fn read_path(text: &str) -> Result<ParsedPath, Fault> {
    let mut cursor = Cursor::over(text)?;
    let mut attribute = cursor.attribute()?;
    let filter = cursor.bracketed()?;
    if filter.is_some() && cursor.take_if(Token::Dot) {
        if attribute.sub.is_some() {
            return Err(cursor.fault("a second sub-attribute is one too many"));
        }
        attribute.sub = Some(cursor.sub_name()?);
    }
    cursor.expect_end()?;
    Ok(ParsedPath { attribute, filter })
}

/// How closely a connective binds: a right operand takes only what binds closer than its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Loose,
    Or,
    And,
}

/// The state of one parse.
struct Cursor<'i> {
    text: &'i str,
    tokens: Vec<(Token<'i>, usize)>,
    next: usize,
    nesting: usize,
    comparisons: usize,
    in_brackets: bool,
}

impl<'i> Cursor<'i> {
    fn over(text: &'i str) -> Result<Self, Fault> {
        if text.len() > BYTES_MAX {
            let problem = format!("it is longer than {BYTES_MAX} bytes");
            return Err(Fault {
                problem,
                position: None,
            });
        }
        let tokens = tokens(text)?;
        Ok(Self {
            text,
            tokens,
            next: 0,
            nesting: 0,
            comparisons: 0,
            in_brackets: false,
        })
    }

    fn peek(&self) -> Option<Token<'i>> {
        self.tokens.get(self.next).map(|(token, _)| *token)
    }

    fn take_if(&mut self, wanted: Token<'_>) -> bool {
        let found = self.peek() == Some(wanted);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: Token<'_>, problem: &str) -> Result<(), Fault> {
        if self.take_if(wanted) {
            Ok(())
        } else {
            Err(self.fault(problem))
        }
    }

    fn expect_end(&self) -> Result<(), Fault> {
        if self.peek().is_none() {
            return Ok(());
        }
        Err(self.fault("nothing more was expected"))
    }

    fn take_word(&mut self) -> Option<&'i str> {
        let Some(Token::Word(word)) = self.peek() else {
            return None;
        };
        self.next += 1;
        Some(word)
    }

    /// A fault at the next token.
    fn fault(&self, problem: &str) -> Fault {
        let byte = self
            .tokens
            .get(self.next)
            .map_or(self.text.len(), |(_, start)| *start);
        fault_at(self.text, problem, byte)
    }

    fn descend(&mut self, levels: usize) -> Result<(), Fault> {
        self.nesting += levels;
        if self.nesting > NESTING_MAX {
            return Err(self.fault(&format!("more than {NESTING_MAX} brackets are open")));
        }
        Ok(())
    }

    /// Operands joined by connectives that bind closer than `floor`.
    fn expression(&mut self, floor: Binding) -> Result<Filter, Fault> {
        let mut left = self.operand()?;
        while let Some(binding) = self.peek_connective().filter(|binding| *binding > floor) {
            self.next += 1;
            let right = self.expression(binding)?;
            left = if binding == Binding::And {
                left.and(right)
            } else {
                left.or(right)
            };
        }
        Ok(left)
    }

    fn peek_connective(&self) -> Option<Binding> {
        let Some(Token::Word(word)) = self.peek() else {
            return None;
        };
        if word.eq_ignore_ascii_case("and") {
            Some(Binding::And)
        } else {
            word.eq_ignore_ascii_case("or").then_some(Binding::Or)
        }
    }

    fn operand(&mut self) -> Result<Filter, Fault> {
        if self.peek() == Some(Token::Open) {
            return self.parenthesised();
        }
        let negated =
            matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case("not"));
        let opens = self
            .tokens
            .get(self.next + 1)
            .is_some_and(|(token, _)| *token == Token::Open);
        if negated && opens {
            self.next += 1;
            return Ok(Filter::Not(Box::new(self.parenthesised()?)));
        }
        let path = self.attribute()?;
        match self.bracketed()? {
            Some(filter) => self.value_path(path, filter),
            None => self.test(path),
        }
    }

    fn parenthesised(&mut self) -> Result<Filter, Fault> {
        self.descend(1)?;
        self.expect(Token::Open, "'(' was expected")?;
        let filter = self.expression(Binding::Loose)?;
        self.expect(Token::Close, "')' was expected")?;
        self.nesting -= 1;
        Ok(filter)
    }

    /// A filter in square brackets, if one stands here. It takes two levels, because a test that
    /// moves inside may put parentheses around it.
    fn bracketed(&mut self) -> Result<Option<Filter>, Fault> {
        if self.peek() != Some(Token::OpenBracket) {
            return Ok(None);
        }
        if self.in_brackets {
            return Err(self.fault("brackets inside brackets are not allowed"));
        }
        self.descend(2)?;
        self.next += 1;
        self.in_brackets = true;
        let filter = self.expression(Binding::Loose)?;
        self.expect(Token::CloseBracket, "']' was expected")?;
        self.in_brackets = false;
        self.nesting -= 2;
        Ok(Some(filter))
    }

    /// What follows the brackets: nothing, or Entra's test of a sub-attribute, which moves inside.
    fn value_path(&mut self, path: AttributePath, inner: Filter) -> Result<Filter, Fault> {
        let mut filter = inner;
        if self.take_if(Token::Dot) {
            let name = self.sub_name()?;
            filter = filter.and(self.test(AttributePath::plain(name))?);
        }
        Ok(Filter::ValuePath {
            path,
            filter: Box::new(filter),
        })
    }

    fn attribute(&mut self) -> Result<AttributePath, Fault> {
        let fault = self.fault("the name of an attribute was expected");
        self.take_word().and_then(AttributePath::parse).ok_or(fault)
    }

    fn sub_name(&mut self) -> Result<String, Fault> {
        let fault = self.fault("the name of a sub-attribute was expected");
        let path = self
            .take_word()
            .and_then(AttributePath::parse)
            .ok_or_else(|| fault.clone())?;
        let plain = path.schema.is_none() && path.sub.is_none();
        plain.then_some(path.name).ok_or(fault)
    }

    /// `pr`, or an operator and a literal.
    fn test(&mut self, path: AttributePath) -> Result<Filter, Fault> {
        self.comparisons += 1;
        if self.comparisons > COMPARISONS_MAX {
            return Err(self.fault(&format!("more than {COMPARISONS_MAX} comparisons")));
        }
        let fault =
            self.fault("an operator was expected (eq, ne, co, sw, ew, gt, ge, lt, le or pr)");
        let word = self.take_word().ok_or_else(|| fault.clone())?;
        if word.eq_ignore_ascii_case("pr") {
            return Ok(Filter::Present { path });
        }
        let op = CompareOp::find(word).ok_or(fault)?;
        Ok(Filter::Compare {
            path,
            op,
            value: self.literal()?,
        })
    }

    fn literal(&mut self) -> Result<Literal, Fault> {
        let fault = |cursor: &Self| {
            cursor.fault(
                "a value was expected: a string in double quotes, a number, true, false or null",
            )
        };
        let literal = match self.peek() {
            Some(Token::Word(word)) => read_keyword(word),
            Some(Token::Number(text)) => read_number(text).map(Literal::Number),
            Some(Token::Text(text)) => Some(Literal::Text(self.read_text(text)?)),
            Some(
                Token::Open | Token::Close | Token::OpenBracket | Token::CloseBracket | Token::Dot,
            )
            | None => None,
        };
        let literal = literal.ok_or_else(|| fault(self))?;
        self.next += 1;
        Ok(literal)
    }

    fn read_text(&self, quoted: &str) -> Result<String, Fault> {
        let text: String = serde_json::from_str(quoted)
            .map_err(|cause| self.fault(&format!("a string is not valid JSON ({cause})")))?;
        if text.contains('\0') {
            return Err(self.fault("a string contains the character U+0000"));
        }
        Ok(text)
    }
}

fn read_keyword(word: &str) -> Option<Literal> {
    let keywords = [
        ("true", Literal::Boolean(true)),
        ("false", Literal::Boolean(false)),
        ("null", Literal::Null),
    ];
    let mut found = keywords
        .into_iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(word));
    found.next().map(|(_, literal)| literal)
}

/// Reads a number exactly, so that printing and reading it again gives the same one.
fn read_number(text: &str) -> Option<Number> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Some(whole.into());
    }
    text.parse().ok().and_then(Number::from_f64)
}

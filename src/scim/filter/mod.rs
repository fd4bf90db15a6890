//! SCIM filters: what a client asks for, as a tree (RFC 7644 section 3.4.2.2).
//!
//! ```text
//! filter      = conjunction *( "or" conjunction )
//! conjunction = operand *( "and" operand )
//! operand     = [ "not" ] "(" filter ")"
//!             / attrPath "[" filter "]"                ; no brackets inside brackets
//!             / attrPath "[" filter "]" "." name test  ; Microsoft Entra ID
//!             / attrPath test
//! test        = "pr" / operator literal
//! operator    = "eq" / "ne" / "co" / "sw" / "ew" / "gt" / "ge" / "lt" / "le"
//! literal     = "true" / "false" / "null" / JSON number / JSON string
//! attrPath    = [ URN ":" ] name [ "." name ]
//! name        = [ "$" ] ALPHA *( ALPHA / DIGIT / "-" / "_" )
//! ```
//!
//! Words are read in any case, and white space may stand around every token. `and` binds closer
//! than `or`. The form `emails[type eq "work"].value eq "x"` is missing from the RFC's grammar but
//! sent by Entra; it means, and becomes, `emails[type eq "work" and value eq "x"]`.
//!
//! A filter has at most [`BYTES_MAX`] bytes, [`NESTING_MAX`] open brackets and [`COMPARISONS_MAX`]
//! comparisons. Everything that walks the tree recurses, and the second limit bounds how deep.
//! `token` and `grammar` read the text, [`eval`] decides about a document, [`path`] reads the paths of PATCH,
//! which contain filters.

use std::fmt;

use serde_json::{Number, Value};

pub mod eval;
mod grammar;
pub mod path;
pub mod pushdown;
mod token;

use crate::scim::error::ScimError;
pub use crate::scim::schema::AttributePath;

/// Bytes of a filter or of a PATCH path.
pub const BYTES_MAX: usize = 8 * 1024;

/// Parentheses and brackets that may be open at once.
pub const NESTING_MAX: usize = 16;

/// Comparisons, presence tests included.
pub const COMPARISONS_MAX: usize = 64;

/// A filter. [`Filter::and`] and [`Filter::or`] keep the form that printing and parsing preserve:
/// no `And` directly inside an `And`, no `Or` directly inside an `Or`.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All of at least two filters match.
    And(Vec<Filter>),
    /// One of at least two filters matches.
    Or(Vec<Filter>),
    /// The filter does not match.
    Not(Box<Filter>),
    /// A value compares with a literal.
    Compare {
        /// What is compared.
        path: AttributePath,
        /// How.
        op: CompareOp,
        /// With what.
        value: Literal,
    },
    /// An attribute has a value.
    Present {
        /// Which one.
        path: AttributePath,
    },
    /// One element of a multi-valued attribute matches all of a filter.
    ValuePath {
        /// The attribute.
        path: AttributePath,
        /// The filter; its paths name parts of the attribute.
        filter: Box<Filter>,
    },
}

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Contains.
    Co,
    /// Starts with.
    Sw,
    /// Ends with.
    Ew,
    /// Greater than.
    Gt,
    /// Greater than or equal.
    Ge,
    /// Less than.
    Lt,
    /// Less than or equal.
    Le,
}

impl CompareOp {
    const ALL: [Self; 9] = [
        Self::Eq,
        Self::Ne,
        Self::Co,
        Self::Sw,
        Self::Ew,
        Self::Gt,
        Self::Ge,
        Self::Lt,
        Self::Le,
    ];

    /// The operator as it is written in a filter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Co => "co",
            Self::Sw => "sw",
            Self::Ew => "ew",
            Self::Gt => "gt",
            Self::Ge => "ge",
            Self::Lt => "lt",
            Self::Le => "le",
        }
    }

    fn find(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|op| op.as_str().eq_ignore_ascii_case(word))
    }
}

/// What an attribute is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `null`: no value.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A JSON number.
    Number(Number),
    /// A JSON string, decoded.
    Text(String),
}

impl Filter {
    /// Both filters match.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let mut operands = self.into_conjuncts();
        operands.extend(other.into_conjuncts());
        Self::And(operands)
    }

    /// One of the filters matches, or both do.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let mut operands = self.into_alternatives();
        operands.extend(other.into_alternatives());
        Self::Or(operands)
    }

    /// How many comparisons the filter holds, presence tests included.
    pub fn comparisons(&self) -> usize {
        match self {
            Self::And(operands) | Self::Or(operands) => {
                operands.iter().map(Self::comparisons).sum()
            }
            Self::Not(inner) => inner.comparisons(),
            Self::Compare { .. } | Self::Present { .. } => 1,
            Self::ValuePath { filter, .. } => filter.comparisons(),
        }
    }

    fn into_conjuncts(self) -> Vec<Self> {
        if let Self::And(operands) = self {
            operands
        } else {
            vec![self]
        }
    }

    fn into_alternatives(self) -> Vec<Self> {
        if let Self::Or(operands) = self {
            operands
        } else {
            vec![self]
        }
    }
}

/// Reads a filter.
pub fn parse(text: &str) -> Result<Filter, ScimError> {
    grammar::read_filter(text)
        .map_err(|fault| ScimError::invalid_filter(format!("The filter is malformed: {fault}.")))
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(operands) => write_joined(f, operands, " and "),
            Self::Or(operands) => write_joined(f, operands, " or "),
            Self::Not(inner) => write!(f, "not ({inner})"),
            Self::Compare { path, op, value } => write!(f, "{path} {} {value}", op.as_str()),
            Self::Present { path } => write!(f, "{path} pr"),
            Self::ValuePath { path, filter } => write!(f, "{path}[{filter}]"),
        }
    }
}

/// Writes operands; an `or` inside an `and` needs parentheses, everything else binds close enough.
fn write_joined(f: &mut fmt::Formatter<'_>, operands: &[Filter], connective: &str) -> fmt::Result {
    for (index, operand) in operands.iter().enumerate() {
        if index > 0 {
            f.write_str(connective)?;
        }
        if matches!(operand, Filter::Or(_)) {
            write!(f, "({operand})")?;
        } else {
            write!(f, "{operand}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{}", Value::from(text.as_str())),
        }
    }
}

#[cfg(test)]
mod tests;

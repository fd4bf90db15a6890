//! An SQL text in the making.
//!
//! For statements whose shape follows from what was asked: conditions are pushed one after the other,
//! and values only ever become parameters.

use std::fmt::Write as _;

use sea_orm::{Statement, Value};

use super::Dialect;

/// A text with the values of its `$1`-style parameters.
#[derive(Clone, Debug, Default)]
pub struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    /// Appends a piece of SQL that was written by us.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Appends a parameter that holds `value`.
    pub fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        // Writing into a String does not fail.
        let _infallible = write!(self.text, "${}", self.values.len());
        self
    }

    /// The finished statement.
    pub fn statement(self, dialect: Dialect) -> Statement {
        dialect.statement(&self.text, self.values)
    }
}

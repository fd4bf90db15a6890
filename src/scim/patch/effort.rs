//! A bound on the comparing that one PATCH request may cause.
//!
//! A request may carry a thousand operations, each with a filter of sixty comparisons, against a
//! thousand elements. Every one of these limits is sensible; their product is minutes of work. So
//! each operation on a multi-valued attribute pays for what it has to look at, and a request that
//! cannot pay is refused. Honest requests spend less than a thousandth.

use serde_json::Value;

use crate::scim::error::ScimError;

/// What one request may spend: bytes looked at.
const EFFORT_MAX: usize = 32 * 1024 * 1024;

/// What looking at a value costs besides its text.
const VALUE_COST: usize = 16;

/// What one request may still spend.
pub(super) struct Effort {
    left: usize,
}

impl Effort {
    /// The effort of one request.
    pub(super) const fn of_one_request() -> Self {
        Self { left: EFFORT_MAX }
    }

    /// Pays for looking at all of a list a number of times.
    pub(super) fn spend_on_list(&mut self, list: &[Value], times: usize) -> Result<(), ScimError> {
        let size: usize = list.iter().map(size_of).sum();
        self.spend(size.saturating_mul(times))
    }

    /// Pays for comparing each of some values with each of others.
    pub(super) fn spend_on_pairs(&mut self, some: usize, others: usize) -> Result<(), ScimError> {
        self.spend(some.saturating_mul(others).saturating_mul(VALUE_COST))
    }

    fn spend(&mut self, cost: usize) -> Result<(), ScimError> {
        let left = self.left.checked_sub(cost);
        self.left = left.ok_or_else(|| {
            ScimError::too_many_operations(
                "The operations compare too many values. Send them in several requests.",
            )
        })?;
        Ok(())
    }
}

/// The text in a value and the values in it. Documents are bounded in depth.
fn size_of(value: &Value) -> usize {
    let inner = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size_of).sum(),
        Value::Object(parts) => parts.values().map(size_of).sum(),
    };
    inner.saturating_add(VALUE_COST)
}

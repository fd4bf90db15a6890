//! API keys, which only the command line makes so far.

use serde_json::{Value, json};

use super::read::check_name;
use super::{Caller, Problem};
use crate::clock;
use crate::tenancy::api_key;

/// Makes an API key; the answer is the only place where it is shown.
///
/// # Errors
/// The name is invalid.
pub async fn create(caller: &Caller, name: String) -> Result<Value, Problem> {
    let mut errors = Vec::new();
    check_name("name", &name, &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let made = api_key::create(&caller.context.store, caller.actor, name).await?;
    Ok(json!({
        "id": made.row.id,
        "name": made.row.name,
        "key": made.key.expose(),
        "created_at": clock::text(made.row.created_at),
    }))
}

//! The generations of the log at `/admin/v1/generations`.

use serde_json::{Value, json};

use super::{Caller, Problem};
use crate::clock;
use crate::storage::generation;

/// Nobody restores a database so often.
const SHOWN_MAX: u64 = 1_000;

/// Shows the generations, newest first.
///
/// # Errors
/// The database fails.
pub async fn list(caller: &Caller) -> Result<Value, Problem> {
    let found = generation::list(caller.context.store.reader(), SHOWN_MAX).await?;
    let data: Vec<Value> = found
        .into_iter()
        .map(|generation| {
            json!({
                "object": "generation",
                "number": generation.number,
                "cause": generation.cause,
                "sequence_step": generation.step,
                "directories": generation.directories,
                "started_at": clock::text(generation.started_at),
            })
        })
        .collect();
    Ok(json!({"object": "list", "data": data}))
}

//! What a directory comes to, at `/admin/v1/directories/{id}/checksum`.

use serde_json::{Value, json};

use super::directories::find;
use super::{Caller, Problem};
use crate::directories::checksum::{self, Error};

/// Shows how much there is in a directory, and a digest of it, exact at a sequence.
///
/// # Errors
/// There is no such directory, or it changes all the time.
pub async fn show(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let directory = find(caller, id).await?;
    let checksum = checksum::compute(&caller.context.store, &directory)
        .await
        .map_err(problem)?;
    Ok(json!({
        "object": "directory_checksum",
        "directory_id": directory.id,
        "sequence": checksum.sequence,
        "users": checksum.users,
        "groups": checksum.groups,
        "memberships": checksum.memberships,
        "sha256": checksum.digest,
    }))
}

fn problem(error: Error) -> Problem {
    match error {
        Error::Busy => Problem::new(409, "directory_busy", error.to_string()),
        Error::Storage(error) => error.into(),
    }
}

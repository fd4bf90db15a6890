//! What is made once per database: the first credentials, and the [`generation`] of its log.

pub mod generation;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::ids::ApiKeyId;
use crate::secrets::{Token, TokenKind};
use crate::storage::schema::claim_fact;
use crate::storage::tables::api_keys;
use crate::storage::{self, Lane, Store, UseCase, WriteTx, insert_new};

const FIRST_CREDENTIALS: &str = "first_credentials";
/// How many databases in a row may have had their first start in one directory.
const CREDENTIAL_FILES_MAX: u32 = 100;

/// Makes the first API key, unless this database has had one.
///
/// # Errors
/// The database fails.
pub async fn api_key(store: &Store) -> Result<Option<String>, storage::Error> {
    let key = Token::generate(TokenKind::ApiKey);
    let claim = Claim {
        digest: key.digest().to_vec(),
        suffix: key.suffix().to_owned(),
    };
    let is_first = store.write(Lane::System, claim).await?;
    Ok(is_first.then(|| key.expose().to_owned()))
}

/// Makes the key and says so in one transaction, so that two nodes that start at once make one.
struct Claim {
    digest: Vec<u8>,
    suffix: String,
}

impl UseCase for Claim {
    type Answer = bool;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<bool, storage::Error> {
        let id = ApiKeyId::generate();
        if !claim_fact(tx, FIRST_CREDENTIALS, &id.to_string()).await? {
            return Ok(false);
        }
        let row = api_keys::Model {
            id,
            name: "first".to_owned(),
            digest: self.digest.clone(),
            suffix: self.suffix.clone(),
            created_at: tx.now(),
            last_used_at: None,
            revoked_at: None,
        };
        insert_new(tx, api_keys::ActiveModel::from(row)).await?;
        Ok(true)
    }
}

/// Writes the first credentials into a new file that only its owner can read; returns its path. A file
/// with those of another database stays as it is.
///
/// # Errors
/// No such file can be made.
pub fn write_credentials(directory: &Path, api_key: &str) -> io::Result<PathBuf> {
    std::fs::create_dir_all(directory)?;
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    for number in 1..=CREDENTIAL_FILES_MAX {
        let name = match number {
            1 => "first-credentials.txt".to_owned(),
            _ => format!("first-credentials-{number}.txt"),
        };
        let path = directory.join(name);
        match options.open(&path) {
            Ok(mut file) => {
                writeln!(file, "ROLLCALL_API_KEY={api_key}")?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credentials_of_another_database_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let first = write_credentials(directory.path(), "sk_one").unwrap();
        let second = write_credentials(directory.path(), "sk_two").unwrap();
        assert_eq!(
            std::fs::read_to_string(first).unwrap(),
            "ROLLCALL_API_KEY=sk_one\n"
        );
        assert_eq!(
            std::fs::read_to_string(second).unwrap(),
            "ROLLCALL_API_KEY=sk_two\n"
        );
    }
}

//! Copies of a SQLite database: made while it is written, and put in its place.
//!
//! Invariants: a file that is there is never overwritten; a copy appears under its name whole or not at
//! all; copies are readable by their owner only, since they hold what the database holds.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sea_orm::{ConnectionTrait as _, DbErr};

use super::{Dialect, Store};

/// Files that belong to a SQLite database while it is open, or after a crash.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there already.
    #[error("{} exists already and is not overwritten; name another file", .0.display())]
    Exists(PathBuf),
    /// The name cannot be given to SQLite.
    #[error("{} is not a name in UTF-8; name another file", .0.display())]
    Name(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The database failed, or its disk is full.
    #[error("the copy was not made: {0}")]
    Database(#[from] DbErr),
}

impl BackupError {
    fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// The path with `suffix` after it.
pub fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// Makes an empty file that only its owner can read, unless there is a file.
pub(super) fn make_private(file: &Path) -> io::Result<()> {
    match new_private(file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

fn new_private(file: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

/// Copies the database of `store` into the new file `file`, while others read and write it.
///
/// # Errors
/// The file is there already or cannot be written, or the database fails.
pub async fn copy_to(store: &Store, file: &Path) -> Result<(), BackupError> {
    let failed = |error| BackupError::file(file, error);
    if file.try_exists().map_err(failed)? {
        return Err(BackupError::Exists(file.to_owned()));
    }
    let part = beside(file, &format!(".{}.part", std::process::id()));
    drop(new_private(&part).map_err(failed)?);
    let copied = match vacuum(store, &part).await {
        Ok(()) => publish(&part, file),
        Err(error) => Err(error),
    };
    if copied.is_err() {
        // What went wrong first is what is told.
        drop(fs::remove_file(&part));
    }
    copied
}

/// SQLite itself writes the copy, as of one moment, into an empty file.
async fn vacuum(store: &Store, part: &Path) -> Result<(), BackupError> {
    let Some(name) = part.to_str() else {
        return Err(BackupError::Name(part.to_owned()));
    };
    store
        .migration_connection()
        .execute_raw(Dialect::Sqlite.statement("VACUUM INTO $1", [name.into()]))
        .await?;
    Ok(())
}

/// Gives the copy its name, unless there is such a file by now.
fn publish(part: &Path, file: &Path) -> Result<(), BackupError> {
    let linked = File::open(part)
        .and_then(|copy| copy.sync_all())
        .and_then(|()| fs::hard_link(part, file));
    let named = match linked {
        Ok(()) => fs::remove_file(part),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::Exists(file.to_owned()));
        }
        // Some file systems know no hard links.
        Err(_) => fs::rename(part, file),
    };
    named
        .and_then(|()| sync_directory_of(file))
        .map_err(|error| BackupError::file(file, error))
}

/// Copies the backup `from` to the place `to`, where it is made ready; what is there is from an attempt
/// that was broken off.
///
/// # Errors
/// One cannot be read or the other not written.
pub fn stage(from: &Path, to: &Path) -> Result<(), BackupError> {
    discard(to);
    let copied = File::open(from)
        .map_err(|error| BackupError::file(from, error))
        .and_then(|mut backup| {
            new_private(to)
                .and_then(|mut copy| io::copy(&mut backup, &mut copy))
                .map_err(|error| BackupError::file(to, error))
        });
    copied.map(drop)
}

/// Removes a copy that is not wanted, with what belongs to it.
pub fn discard(copy: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        // Usually it is not there.
        drop(fs::remove_file(beside(copy, suffix)));
    }
}

/// Puts a copy that nobody has open in the place of `database`, and keeps that, if there is one, under the
/// name `aside`.
///
/// # Errors
/// A file cannot be renamed.
pub fn replace(copy: &Path, database: &Path, aside: &Path) -> Result<(), BackupError> {
    let moved = File::open(copy)
        .and_then(|copy| copy.sync_all())
        .and_then(|()| {
            if database.try_exists()? {
                keep(database, aside)?;
            }
            for suffix in COMPANIONS {
                let companion = beside(database, suffix);
                if companion.try_exists()? {
                    fs::rename(companion, beside(aside, suffix))?;
                }
            }
            fs::rename(copy, database)?;
            sync_directory_of(database)
        });
    moved.map_err(|error| BackupError::file(database, error))
}

/// Gives a file a second name, so that it keeps the first until something takes its place.
fn keep(file: &Path, aside: &Path) -> io::Result<()> {
    match fs::hard_link(file, aside) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => fs::rename(file, aside),
        linked => linked,
    }
}

/// Makes new names survive a power cut.
fn sync_directory_of(file: &Path) -> io::Result<()> {
    let directory = file.parent().filter(|path| !path.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

//! `rollcall backup` and `rollcall restore`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};

use super::arguments::RestoreArguments;
use super::print_line;
use crate::actor::Actor;
use crate::app::{self, MASTER_KEY_CHECK};
use crate::audit;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Backend, Config, DatabaseUrl};
use crate::first_start::generation::Restored;
use crate::secrets::MasterKey;
use crate::storage::backup::{self, beside};
use crate::storage::schema::{self, State};
use crate::storage::tables::generations;
use crate::storage::{self, Lane, Opener, Store, UseCase, WriteTx, generation, inspect};

/// How many of the directories that go on in a new generation are named.
const NAMED_MAX: i64 = 100;

/// Copies the database into a new file.
pub(super) async fn make(config: &Config, file: &Path) -> anyhow::Result<bool> {
    let url = config.database_url();
    if url.backend() == Backend::Postgres {
        bail!(
            "PostgreSQL is backed up by its own tools: pg_dump --format=custom --file='{}' '{url}'",
            file.display()
        );
    }
    let (store, _) = app::open(config, Opener::Command, Arc::new(SystemClock)).await?;
    let made = async {
        backup::copy_to(&store, file).await?;
        store.write(Lane::System, BackedUp).await?;
        anyhow::Ok(())
    }
    .await;
    store.close().await;
    made?;
    let key = if config.master_key.is_some() {
        "the master key in master_key (ROLLCALL_MASTER_KEY)".to_owned()
    } else {
        format!("the key file {}", config.master_key_file().display())
    };
    print_line(&format!(
        "The backup is {}. It can be used only with {key}: keep that too, in another place.",
        file.display()
    ))?;
    Ok(true)
}

/// That there is one more copy of everything is worth knowing.
struct BackedUp;

impl UseCase for BackedUp {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        let entry = audit::Entry::of_installation("database.backed_up", &"database");
        audit::record(tx, Actor::COMMAND, entry).await?;
        Ok(())
    }
}

/// Puts a backup in the place of the database, or only begins a new generation.
pub(super) async fn restore(config: &Config, arguments: RestoreArguments) -> anyhow::Result<bool> {
    let url = config.database_url();
    match (arguments.file, url.sqlite_file()) {
        (None, file) => restored_elsewhere(config, file.as_deref(), arguments.above).await?,
        (Some(backup), Some(database)) => {
            let place = Place::new(database);
            place
                .restore(config, &backup, arguments.above, arguments.force)
                .await?;
        }
        (Some(_), None) => bail!(
            "PostgreSQL is restored by its own tools: stop all servers, run pg_restore, then \
             `rollcall restore --new-generation`"
        ),
    }
    Ok(true)
}

/// Begins a new generation in a database that its own tools have restored.
async fn restored_elsewhere(
    config: &Config,
    file: Option<&Path>,
    above: i32,
) -> anyhow::Result<()> {
    let _lock = file
        .filter(|file| file.exists())
        .map(storage::take_lock)
        .transpose()?;
    let (store, _) = app::open(config, Opener::Command, Arc::new(SystemClock)).await?;
    let begun = async {
        if file.is_none() && generation::nodes_alive(&store).await? > 0 {
            bail!("a server is running on this database; stop all servers first");
        }
        begin(&store, above).await
    }
    .await;
    store.close().await;
    tell(&begun?)
}

/// A generation that has begun, and some of the directories that had events then.
struct Begun(generations::Model, Vec<String>);

async fn begin(store: &Store, above: i32) -> anyhow::Result<Begun> {
    let timeline = generation::timeline(store).await?;
    let restored = Restored { above, timeline };
    let row = store.write(Lane::System, restored).await?;
    let affected = generation::affected(store, &row, NAMED_MAX).await?;
    let named = affected
        .into_iter()
        .map(|directory| format!("  {}  {}", directory.id, directory.name));
    Ok(Begun(row, named.collect()))
}

fn tell(Begun(row, named): &Begun) -> anyhow::Result<()> {
    if row.directories == 0 {
        return print_line(&format!(
            "Generation {} begins. No directory has had events yet.",
            row.number
        ));
    }
    print_line(&format!(
        "Generation {} begins. The sequences of {} directories go on {} higher, and their receivers may \
         have had events that this database does not know:",
        row.number, row.directories, row.step
    ))?;
    for line in named {
        print_line(line)?;
    }
    let rest = row.directories - i64::try_from(named.len()).unwrap_or(0);
    if rest > 0 {
        print_line(&format!("  and {rest} more"))?;
    }
    Ok(())
}

/// The files of a SQLite database that is restored.
struct Place {
    database: PathBuf,
    /// Where the backup is made ready.
    copy: PathBuf,
    /// Where the database that is there goes.
    aside: PathBuf,
}

impl Place {
    fn new(database: PathBuf) -> Self {
        let now = SystemClock.now().format("%Y%m%dT%H%M%SZ");
        Self {
            copy: beside(&database, ".restoring"),
            aside: beside(&database, &format!(".replaced-{now}")),
            database,
        }
    }

    async fn restore(
        &self,
        config: &Config,
        backup: &Path,
        above: i32,
        may_replace: bool,
    ) -> anyhow::Result<()> {
        if let Some(directory) = self.database.parent().filter(|path| *path != Path::new("")) {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make the directory {}", directory.display()))?;
        }
        let _lock = storage::take_lock(&self.database)?;
        let is_there = self.database.exists();
        if is_there && !may_replace {
            bail!(
                "there is a database at {}; with --force it is kept under another name and replaced",
                self.database.display()
            );
        }
        let master_key = app::master_key(config, Backend::Sqlite, false)?;
        let known = if is_there {
            self.known_generation().await
        } else {
            0
        };
        backup::stage(backup, &self.copy)?;
        let ready = self.make_ready(master_key, known.max(above)).await;
        let begun = match ready {
            Ok(begun) => begun,
            Err(error) => {
                backup::discard(&self.copy);
                return Err(error.context(format!("{} cannot be restored", backup.display())));
            }
        };
        backup::replace(&self.copy, &self.database, &self.aside)?;
        print_line(&format!("Restored into {}.", self.database.display()))?;
        if is_there {
            print_line(&format!("What was there is {}.", self.aside.display()))?;
        }
        tell(&begun)
    }

    /// The generation of the database that is there, 0 if it cannot be read; closing it leaves one file.
    async fn known_generation(&self) -> i32 {
        let url = DatabaseUrl::sqlite(&self.database);
        let opened = Store::open(url.expose(), Opener::Command, Arc::new(SystemClock)).await;
        let Ok(store) = opened else {
            return 0;
        };
        let newest = generation::newest(store.reader()).await;
        store.close().await;
        newest.ok().flatten().map_or(0, |newest| newest.number)
    }

    /// Checks the copy and begins a new generation in it.
    async fn make_ready(&self, master_key: MasterKey, above: i32) -> anyhow::Result<Begun> {
        let url = DatabaseUrl::sqlite(&self.copy);
        let store = Store::open(url.expose(), Opener::Command, Arc::new(SystemClock)).await?;
        let begun = async {
            check(&store, master_key).await?;
            begin(&store, above).await
        }
        .await;
        store.close().await;
        let begun = begun?;
        if beside(&self.copy, "-wal").exists() {
            bail!("another program has {} open", self.copy.display());
        }
        Ok(begun)
    }
}

/// Whether it is a whole database of ours, and opens with our key.
async fn check(store: &Store, master_key: MasterKey) -> anyhow::Result<()> {
    if let Some(damage) = inspect::damage(store).await? {
        bail!("it is damaged: {damage}");
    }
    if schema::check(store).await? == State::Behind(migration::names()) {
        bail!("it is not a database of Rollcall");
    }
    let stored = schema::read_fact(store.statement_connection(), MASTER_KEY_CHECK).await?;
    let stored = stored.ok_or_else(|| anyhow!("it has never been used by a server"))?;
    app::known_to(master_key, &stored)?;
    schema::migrate(store).await?;
    Ok(())
}

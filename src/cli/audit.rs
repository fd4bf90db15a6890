//! `rollcall audit`: showing the audit trail, and verifying it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::administer::{self, Request};
use super::arguments::Where;
use super::print_line;
use crate::app;
use crate::audit::Key;
use crate::audit::verify::{self, Report};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::storage::Opener;

#[derive(Debug, Subcommand)]
pub(super) enum AuditVerb {
    /// Show who did what, newest first
    List {
        #[command(flatten)]
        search: Box<AuditSearch>,
        #[command(flatten)]
        place: Where,
    },
    /// Recompute the chains and name the first entry that is not as it was written; exit 1 if there is one
    Verify(VerifyArguments),
}

#[derive(Debug, Args)]
pub(super) struct AuditSearch {
    /// Of this organization only
    #[arg(long, value_name = "ORG_ID")]
    organization: Option<String>,
    /// Of this directory only
    #[arg(long, value_name = "DIRECTORY_ID")]
    directory: Option<String>,
    /// What this one did: the id of a token or an API key, "command" or "system"
    #[arg(long)]
    actor: Option<String>,
    /// What was done, such as "token.created"; "scim.write" for what providers change
    #[arg(long)]
    action: Option<String>,
    /// Not before (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Those that follow this entry
    #[arg(long, value_name = "ENTRY_ID")]
    after: Option<String>,
    /// How many: 1 to 100
    #[arg(long, default_value_t = 10)]
    limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// The signed heads to compare with; without it, the file of this node, if there is one
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl AuditSearch {
    fn into_query(self) -> Value {
        let text = [
            ("organization_id", self.organization),
            ("directory_id", self.directory),
            ("actor", self.actor),
            ("action", self.action),
            ("since", self.since),
            ("until", self.until),
            ("after", self.after),
        ];
        let given = text
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?))));
        let mut query: Map<String, Value> = given.collect();
        query.insert("limit".to_owned(), Value::from(self.limit));
        Value::Object(query)
    }
}

pub(super) async fn run(file: Option<&Path>, verb: AuditVerb) -> anyhow::Result<bool> {
    match verb {
        AuditVerb::List { search, place } => {
            let request = Request::search("/admin/v1/audit_entries", &search.into_query(), place);
            administer::run(file, request).await
        }
        AuditVerb::Verify(arguments) => verify(&Config::load(file)?, arguments).await,
    }
}

/// Verifies beside a running server or without one; the master key is needed here.
async fn verify(config: &Config, arguments: VerifyArguments) -> anyhow::Result<bool> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (store, master_key) = app::open(config, Opener::Command, Arc::clone(&clock)).await?;
    let own = Some(config.audit_heads_file()).filter(|path| path.exists());
    let heads = arguments.heads.or(own);
    let key = Key::of(&master_key);
    let verified = verify::verify(&store, &key, heads.as_deref(), clock.now()).await;
    store.close().await;
    let report = verified?;
    if arguments.json {
        print_line(&report.view().to_string())?;
    } else {
        print_line(&in_words(&report, heads.is_some()))?;
    }
    Ok(report.fault.is_none())
}

fn in_words(report: &Report, has_heads: bool) -> String {
    if let Some(fault) = &report.fault {
        return format!("WRONG: {fault}");
    }
    let compared = if has_heads {
        format!("{} signed heads agree", report.heads)
    } else {
        "compared with no signed heads: give --heads to find what was cut off the end".to_owned()
    };
    format!(
        "{} entries are in their places; {compared}.",
        report.entries
    )
}

//! The command line.
//!
//! Verbs that administer run the same operations as the API, beside a running server on its database,
//! or with `--url` and `--api-key` through its API, and print the same. Every failure is one line on
//! standard error and a non-zero exit.

mod administer;
mod arguments;
mod audit;
mod backup;
mod deliveries;
mod doctor;
mod endpoints;
mod keys;
mod listen;
mod serve;
mod snapshots;
mod why;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, DemoArguments, KeyVerb, SimulateArguments, Verb};

use crate::config::Config;
use crate::demo::{self, DemoOptions};
use crate::secrets::MasterKey;
use crate::simulate::{self, Plan, Target};
use crate::telemetry;

/// Reads the command line and runs the verb.
pub async fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // The whole chain on one line; there is nobody to tell if even this fails.
            let text = format!("{error:#}").replace('\n', " ");
            writeln!(std::io::stderr(), "rollcall: {text}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(arguments: Arguments) -> anyhow::Result<bool> {
    let file = arguments.config.as_deref();
    match arguments
        .verb
        .unwrap_or(Verb::Serve(arguments::ServeArguments::default()))
    {
        Verb::Serve(serve) => {
            let mut config = Config::load(file)?;
            if serve.no_migrate {
                config.migrate = false;
            }
            log_as_configured(&config)?;
            serve::run(config).await.map(|()| true)
        }
        Verb::Migrate(migrate) => serve::migrate(&Config::load(file)?, migrate.check).await,
        Verb::Demo(demo) => run_demo(demo).await,
        Verb::Simulate(simulation) => simulate(simulation).await,
        Verb::Key(KeyVerb::New) => print_line(&MasterKey::generate().expose()).map(|()| true),
        Verb::Key(KeyVerb::Rotate) => keys::rotate(&Config::load(file)?).await,
        Verb::Backup(arguments) => backup::make(&Config::load(file)?, &arguments.file).await,
        Verb::Restore(arguments) => backup::restore(&Config::load(file)?, arguments).await,
        Verb::Doctor(arguments) => doctor::run(&Config::load(file)?, arguments.json).await,
        Verb::ApiKey(verb) => administer::run(file, verb.into_request()).await,
        Verb::Org(verb) => administer::run(file, verb.into_request()).await,
        Verb::Directory(verb) => administer::run(file, verb.into_request()).await,
        Verb::Token(verb) => administer::run(file, verb.into_request()).await,
        Verb::Endpoint(verb) => administer::run(file, verb.into_request()).await,
        Verb::Snapshot(verb) => administer::run(file, verb.into_request()).await,
        Verb::Delivery(verb) => administer::run(file, verb.into_request()).await,
        Verb::Replay(verb) => administer::run(file, verb.into_request()).await,
        Verb::Listen(arguments) => listen::run(file, arguments).await,
        Verb::Audit(verb) => audit::run(file, verb).await,
        Verb::Why(arguments) => why::run(file, arguments).await,
    }
}

fn log_as_configured(config: &Config) -> anyhow::Result<()> {
    Ok(telemetry::init(config.log.format, &config.log.level)?)
}

async fn run_demo(demo: DemoArguments) -> anyhow::Result<bool> {
    telemetry::init(telemetry::Format::Auto, "warn")?;
    let options = DemoOptions {
        exit: demo.exit,
        forward_to: demo.forward_to,
        listen: demo.listen,
    };
    demo::run(options).await
}

async fn simulate(arguments: SimulateArguments) -> anyhow::Result<bool> {
    telemetry::init(telemetry::Format::Auto, "warn")?;
    let target = Target {
        scim_base_url: arguments.url,
        token: arguments.token,
    };
    let plan = Plan {
        users: arguments.users,
        groups: arguments.groups,
        rate: arguments.rate,
        seed: arguments.seed,
    };
    let summary = simulate::progress::run(arguments.provider.into(), &target, &plan).await?;
    Ok(summary.failed == 0)
}

/// Writes a line to standard output.
fn print_line(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

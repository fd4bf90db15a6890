//! The `rollcall` binary: reads the command line and runs the verb.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    rollcall::cli::run().await
}

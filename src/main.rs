//! The `rollcall` binary: reads the command line and runs the verb.

use std::process::ExitCode;

/// Rows are made on the database's threads and dropped on those that answer, which the C library's own
/// allocator does not take well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    rollcall::cli::run().await
}

//! The program: everything of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    watchfire::cli::main(|_| {
        Err(watchfire::error::Failure::failed(
            "this build holds no agent yet",
        ))
    })
}

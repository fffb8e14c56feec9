//! The program: everything of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    watchfire::heap::keep_together();
    watchfire::cli::main(watchfire::app::run)
}

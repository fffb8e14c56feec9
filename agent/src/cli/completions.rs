//! `watchfire completions`.

use crate::error::Failure;
use std::io::Write;

/// Options of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which shell
    shell: clap_complete::Shell,
}

pub(super) fn completions(args: &Args, cli: &mut clap::Command) -> Result<(), Failure> {
    // Into memory first: the generator panics where stdout is closed early.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, cli, "watchfire", &mut script);
    super::screen::quietly(std::io::stdout().lock().write_all(&script))
}

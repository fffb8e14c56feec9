//! `watchfire compile`, hidden: the child process of `plugin/compile.rs`.

use crate::plugin::compile::{COMPONENT_BYTES_MAX, limit_this_process};
use crate::sandbox;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of `watchfire compile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The component; standard input where it is left out.
    pub component: Option<PathBuf>,
    /// Compile for an engine that reserves little address space.
    #[arg(long)]
    pub small_address_space: bool,
    /// Somebody waits: at the priority of whoever asked.
    #[arg(long)]
    pub foreground: bool,
    /// Compile for the interpreter.
    #[arg(long)]
    pub interpreter: bool,
}

/// Limits this process, compiles, writes the artefact to standard output. A refusal is one line on
/// standard error and exit code 1.
pub fn run(args: &Args) -> ExitCode {
    match compile(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("{line}");
            ExitCode::from(1)
        }
    }
}

fn compile(args: &Args) -> Result<(), String> {
    limit_this_process(args.foreground)
        .map_err(|error| format!("cannot limit the compiling process: {error}"))?;
    let component = read(args.component.as_deref())
        .map_err(|error| format!("cannot read the component: {error}"))?;
    let settings = sandbox::Settings {
        small_address_space: args.small_address_space,
        interpreter: args.interpreter,
    };
    let artefact = sandbox::compile(&component, settings).map_err(|error| one_line(&error))?;
    let mut out = std::io::stdout().lock();
    out.write_all(&artefact)
        .and_then(|()| out.flush())
        .map_err(|error| format!("cannot hand over the artefact: {error}"))
}

fn read(file: Option<&Path>) -> std::io::Result<Vec<u8>> {
    let mut component = Vec::new();
    let bytes_max = COMPONENT_BYTES_MAX as u64 + 1;
    match file {
        Some(path) => std::fs::File::open(path)?
            .take(bytes_max)
            .read_to_end(&mut component)?,
        None => std::io::stdin()
            .lock()
            .take(bytes_max)
            .read_to_end(&mut component)?,
    };
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "it has more than {} MiB",
            COMPONENT_BYTES_MAX >> 20
        )));
    }
    Ok(component)
}

/// The error and its causes, without line breaks.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

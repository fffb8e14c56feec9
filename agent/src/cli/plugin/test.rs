//! `watchfire plugin test`: the cases of a plugin's `testdata`, each in a sandbox of its own.

use super::build;
use super::case::{self, Case};
use super::load::{self, Compiled};
use super::project::Project;
use crate::cli::Global;
use crate::cli::client::Client;
use crate::cli::screen::{Paint, Screen, count};
use crate::error::Failure;
use crate::telemetry::printable;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of `plugin test`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin's folder
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Only cases whose name contains this
    #[arg(long, value_name = "PART")]
    case: Option<String>,
    /// Take this component (a file, or the name of a stock plugin) and do not build
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Link all of WASI, refusing everything
    #[arg(long)]
    stub_wasi: bool,
}

/// How a case ended.
struct Ended {
    name: String,
    /// What differed; empty: it passed.
    differences: Vec<String>,
    took: Duration,
}

pub(super) fn test(args: &Args, global: &Global) -> Result<(), Failure> {
    let cases = cases(&args.path, args.case.as_deref())?;
    let component = match &args.component {
        Some(file) => file.clone(),
        None => build::component(&Project::of(&args.path)?, false)?,
    };
    let ended = Client::block_on(run(&component, cases, args.stub_wasi))?;
    let failed = ended.iter().filter(|case| !case.differences.is_empty());
    let failed = failed.count();
    let screen = Screen::of_stdout(global.json);
    if global.json {
        let all: Vec<_> = ended
            .iter()
            .map(|case| json!({ "case": case.name, "passed": case.differences.is_empty(), "differences": case.differences }))
            .collect();
        screen.print_json(&json!(all))?;
    } else {
        screen.print(&words(&ended, failed, screen))?;
    }
    if failed > 0 {
        Err(Failure::said())
    } else {
        Ok(())
    }
}

fn words(ended: &[Ended], failed: usize, screen: Screen) -> String {
    let mut out = String::new();
    for case in ended {
        if case.differences.is_empty() {
            let took = case.took;
            out.push_str(&format!("ok      {} ({took:.1?})\n", printable(&case.name)));
            continue;
        }
        let failed = screen.paint(Paint::Critical, "FAILED");
        out.push_str(&format!("{failed}  {}\n", printable(&case.name)));
        for difference in &case.differences {
            out.push_str(&format!("        {}\n", printable(difference)));
        }
    }
    out.push_str(&format!(
        "\n{}, {failed} failed\n",
        count(ended.len(), "case")
    ));
    out
}

/// The folders of `testdata` that hold a case, by name.
fn cases(folder: &Path, part: Option<&str>) -> Result<Vec<Case>, Failure> {
    let testdata = folder.join("testdata");
    let entries = std::fs::read_dir(&testdata).map_err(|error| {
        Failure::failed(format!(
            "{}: {error}; write a case into testdata/NAME/case.toml",
            testdata.display()
        ))
    })?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    let mut cases = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if part.is_none_or(|part| name.contains(part)) {
            cases.extend(Case::read(&folder)?);
        }
    }
    if cases.is_empty() {
        return Err(Failure::failed(format!(
            "{} has no case{}: write one into testdata/NAME/case.toml",
            testdata.display(),
            part.map_or_else(String::new, |part| format!(" called {part:?}"))
        )));
    }
    Ok(cases)
}

async fn run(file: &Path, cases: Vec<Case>, stub_wasi: bool) -> Result<Vec<Ended>, Failure> {
    let sandbox = load::sandbox(load::services())?;
    let compiled: Compiled = load::compile(file, &sandbox).await?;
    let kinds = compiled.load(&sandbox, stub_wasi)?.kinds().to_vec();
    let mut ended = Vec::new();
    for case in cases {
        let (differences, took) = case::run(&case, &compiled, &kinds, stub_wasi).await?;
        ended.push(Ended {
            name: case.name,
            differences,
            took,
        });
    }
    Ok(ended)
}

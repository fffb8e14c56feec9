//! `watchfire plugin check`: would an agent take this component, and what should its author mend?
//!
//! Nothing is granted and nothing collected, judged, sent or done: it is compiled, loaded, asked what it is, and
//! given a configuration. Errors are what an agent would refuse; warnings what an operator would stumble over.

use super::grant;
use super::load::{Ready, load};
use super::project::KindName;
use super::run::kind;
use crate::cli::Global;
use crate::cli::client::Client;
use crate::cli::screen::{Paint, Screen, bytes, count};
use crate::error::Failure;
use crate::plugin::folder::is_plugin_name;
use crate::sandbox::types::{CallError, Kind, Limits, Use};
use crate::sandbox::{COMPONENT_BYTES_MAX, Component, HostConfig, wants};
use crate::telemetry::printable;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A component above this is a tenth of what an agent takes: it costs memory on every host.
const LARGE_BYTES: usize = 3 << 20;

/// A compilation above this is felt when an agent starts with an empty cache.
const SLOW_COMPILE: Duration = Duration::from_secs(5);

/// Options of `plugin check`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A component, a folder in which one was built, or the name of a stock plugin
    file: PathBuf,
    /// A table that it must accept
    #[arg(long = "config", id = "table", value_name = "JSON")]
    table: Option<String>,
    /// An input of a rule, by name; may stand several times
    #[arg(long, value_name = "NAME")]
    input: Vec<String>,
    /// As which kind, where it is several
    #[arg(long)]
    kind: Option<KindName>,
    /// Link all of WASI, refusing everything
    #[arg(long)]
    stub_wasi: bool,
}

/// What was found.
#[derive(Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
    /// What is neither.
    notes: Vec<String>,
}

pub(super) fn check(args: &Args, global: &Global) -> Result<(), Failure> {
    let table = args.table.as_deref().unwrap_or("{}");
    let parsed: Value = serde_json::from_str(table)
        .map_err(|error| Failure::failed(format!("--config is no JSON: {error}")))?;
    if !parsed.is_object() {
        return Err(Failure::failed(
            "--config must be a JSON object, such as {\"url\": \"…\"}",
        ));
    }
    let (ready, findings) = Client::block_on(async {
        let ready = load(&args.file, args.stub_wasi, HostConfig::default()).await?;
        let mut findings = Findings::default();
        findings.look(&ready);
        let kind = kind(args.kind, &ready)?;
        let answer = configure(&ready, kind, table, &args.input).await?;
        findings.configured(answer, args.table.is_some());
        Ok((ready, findings))
    })?;
    let screen = Screen::of_stdout(global.json);
    if global.json {
        screen.print_json(&document(&ready, &findings))?;
    } else {
        screen.print(&words(&ready, &findings, screen))?;
    }
    if findings.errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::said())
    }
}

/// Gives it a configuration, as a reload does before anything changes.
async fn configure(
    ready: &Ready,
    kind: Kind,
    table: &str,
    inputs: &[String],
) -> Result<Result<(), CallError>, Failure> {
    let settings = Use {
        id: grant::ID.into(),
        config: table.into(),
        grants: Arc::default(),
        limits: Limits::of_component(kind, ready.bytes),
    };
    let component: &Component = &ready.component;
    Ok(match kind {
        Kind::Probe => component.probe(settings)?.configure().await,
        Kind::Notifier => component.notifier(settings)?.configure().await,
        Kind::Action => component.action(settings)?.configure().await,
        Kind::Rule => {
            let default = ["value".to_owned()];
            let inputs = if inputs.is_empty() { &default } else { inputs };
            component.rule(settings)?.configure(inputs).await.map(drop)
        }
    })
}

impl Findings {
    /// What can be seen without calling it with a configuration.
    fn look(&mut self, ready: &Ready) {
        let description = &ready.description;
        let name = printable(&description.name);
        if !is_plugin_name(&description.name) {
            self.warnings.push(format!(
                "it calls itself {name:?}: write a name of lower-case letters, digits and '-', like {}-queue, so that its file, its tables and its alerts read alike",
                ready.component.kinds()[0].name()
            ));
        }
        if description.version.split('.').count() < 3 {
            self.warnings.push(format!(
                "its version is {:?}: write three numbers, like 0.1.0, so that an operator can tell two files apart",
                printable(&description.version)
            ));
        }
        if description.summary.trim().is_empty() {
            self.warnings.push("it has no summary: write one line (in Rust, `description` in Cargo.toml); it stands in `watchfire plugin list`".to_owned());
        }
        match description.config_schema.as_deref() {
            None => self.notes.push("it has no schema of its table: with one, `plugin inspect` shows operators its keys".to_owned()),
            Some(schema) if serde_json::from_str::<Value>(schema).is_err() => {
                self.errors.push("the schema of its table is no JSON: return a JSON Schema as text, or none".to_owned());
            }
            Some(_) => {}
        }
        for line in wants(description)
            .lines()
            .filter(|line| line.starts_with('#'))
        {
            self.warnings.push(format!(
                "{}: nobody understands that; write NAME VALUE, like `http https://example.org:443`, `files /var/log/*.log`, `system`",
                line.trim_start_matches("# ")
            ));
        }
        if ready.component.kinds() == [Kind::Rule] && !description.wants.is_empty() {
            self.warnings.push(
                "a rule computes and reaches nothing: what it asks for is never granted".to_owned(),
            );
        }
        if ready.bytes > LARGE_BYTES {
            self.notes.push(format!(
                "it has {} of at most {}: every agent compiles it and keeps its code",
                bytes(ready.bytes as u64),
                bytes(COMPONENT_BYTES_MAX as u64)
            ));
        }
        if ready.compile_time > SLOW_COMPILE {
            self.notes.push(format!(
                "its compilation took {:.1} s; an agent does it once and keeps the result",
                ready.compile_time.as_secs_f64()
            ));
        }
    }

    /// What it said to its table.
    fn configured(&mut self, answer: Result<(), CallError>, given: bool) {
        let Err(error) = answer else { return };
        let text = printable(&error.to_string());
        match error {
            CallError::Config(_) if !given => self.notes.push(format!(
                "an empty table is not enough for it: {text} (give one with --config)"
            )),
            CallError::Config(_) => self.errors.push(format!("it refuses the table: {text}")),
            CallError::Denied(_) => self.errors.push(format!(
                "its configure calls what needs a grant: {text}; only look at the table there, and reach out in the call itself"
            )),
            error => self.errors.push(format!(
                "its configure failed ({}): {text}; return an error of the case `config` for what is wrong in the table",
                error.name()
            )),
        }
    }
}

/// Versions of the contract that it was built for.
fn contract(imports: &[String]) -> Vec<&str> {
    let mut versions: Vec<&str> = imports
        .iter()
        .filter(|import| import.starts_with("watchfire:plugin/"))
        .filter_map(|import| Some(import.split_once('@')?.1))
        .collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

fn kinds(ready: &Ready) -> Vec<&'static str> {
    ready
        .component
        .kinds()
        .iter()
        .map(|kind| kind.name())
        .collect()
}

fn document(ready: &Ready, findings: &Findings) -> Value {
    json!({
        "name": ready.description.name,
        "version": ready.description.version,
        "kinds": kinds(ready),
        "contract": contract(ready.component.imports()),
        "imports": ready.component.imports(),
        "size_bytes": ready.bytes,
        "sha256": ready.sha256,
        "compile_ms": u64::try_from(ready.compile_time.as_millis()).unwrap_or(u64::MAX),
        "grant": wants(&ready.description),
        "errors": findings.errors,
        "warnings": findings.warnings,
        "notes": findings.notes,
    })
}

fn words(ready: &Ready, findings: &Findings, screen: Screen) -> String {
    let description = &ready.description;
    let imports: Vec<String> = ready
        .component
        .imports()
        .iter()
        .filter_map(|import| import.strip_prefix("watchfire:plugin/")?.split('@').next())
        .filter(|interface| *interface != "types")
        .map(str::to_owned)
        .collect();
    let wasi = ready
        .component
        .imports()
        .iter()
        .filter(|i| i.starts_with("wasi:"))
        .count();
    let mut lines = vec![
        ("kind", kinds(ready).join(" and ")),
        (
            "contract",
            format!(
                "watchfire:plugin {}",
                contract(ready.component.imports()).join(", ")
            )
            .trim_end()
            .to_owned(),
        ),
        (
            "imports",
            format!(
                "{}; {} of WASI",
                if imports.is_empty() {
                    "nothing".to_owned()
                } else {
                    imports.join(" ")
                },
                count(wasi, "interface")
            ),
        ),
        ("size", bytes(ready.bytes as u64)),
        (
            "compiled",
            format!("in {} ms", ready.compile_time.as_millis()),
        ),
    ];
    let grant = wants(description);
    let asks = grant.lines().find(|line| line.starts_with("grant"));
    lines.push((
        "asks for",
        asks.map_or_else(|| "nothing".to_owned(), printable),
    ));
    let mut out = format!(
        "{} {}: {}\n",
        screen.paint(Paint::Bold, &printable(&description.name)),
        printable(&description.version),
        printable(&description.summary)
    );
    for (what, text) in lines {
        out.push_str(&format!("  {what:<9} {text}\n"));
    }
    for (what, paint, texts) in [
        ("error", Paint::Critical, &findings.errors),
        ("warning", Paint::Warning, &findings.warnings),
        ("note", Paint::Plain, &findings.notes),
    ] {
        for text in texts {
            out.push_str(&format!("\n{}: {text}\n", screen.paint(paint, what)));
        }
    }
    out.push_str(&format!(
        "\n{}, {}\n",
        count(findings.errors.len(), "error"),
        count(findings.warnings.len(), "warning")
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_may_be_refused_a_given_one_not() {
        let refused = || Err(CallError::Config("config.url: write …".to_owned()));
        let mut findings = Findings::default();
        findings.configured(refused(), false);
        assert!(findings.errors.is_empty() && findings.notes[0].contains("--config"));
        findings.configured(refused(), true);
        assert_eq!(
            findings.errors,
            ["it refuses the table: config.url: write …"]
        );
        findings.configured(
            Err(CallError::Denied("http is not granted".to_owned())),
            false,
        );
        assert!(findings.errors[1].contains("only look at the table"));
        findings.configured(Err(CallError::Trapped("a\u{1b}b".to_owned())), false);
        assert!(findings.errors[2].contains("(trapped)") && !findings.errors[2].contains('\u{1b}'));
    }

    #[test]
    fn the_contract_is_read_from_the_imports() {
        let imports = [
            "watchfire:plugin/log@0.1.0",
            "watchfire:plugin/types@0.1.0",
            "wasi:io/poll@0.2.6",
        ];
        assert_eq!(contract(&imports.map(str::to_owned)), ["0.1.0"]);
    }
}

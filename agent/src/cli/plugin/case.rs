//! A case of a plugin's `testdata`: what comes in, what the host answers, what must come out.
//!
//! A folder with `case.toml`, or, for rules, with the `input.json` and `expected.json` of the SDK's
//! `mock::judged`. The component runs in the real sandbox with the grants of the case; what it reaches is real,
//! too: a server on loopback (`{{http}}`), files of the case (`{{case}}`), a host made of files (`[system] root`).

use super::expect::{Expect, Gave, compare_requests, verdict};
use super::grant::{ID, resolve_over};
use super::load::{self, Compiled};
use super::project::{KindName, text_of};
use super::run::{alert, message};
use super::serve::{Answer, Server, bind};
use crate::error::Failure;
use crate::sandbox::host::system::SystemSettings;
use crate::sandbox::types::{Alert, Batch, CallError, Kind, Limits, Message, Needs, Use};
use crate::sandbox::{Component, HostConfig, HostServices, MemoryState, Rule, StateStore};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use watchfire_engine::model::{Severities, Severity};

/// A case, read as far as it can be before its server has an address.
pub(super) struct Case {
    /// Name of its folder.
    pub(super) name: String,
    folder: PathBuf,
    text: Text,
}

enum Text {
    /// `case.toml`.
    Toml(String),
    /// `input.json` and `expected.json`.
    Json(Value),
}

impl Case {
    /// The case in a folder; none, with a word on stderr, where there is one of the plugin's own tests only.
    pub(super) fn read(folder: &Path) -> Result<Option<Case>, Failure> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let case = |text| Case {
            name: name.to_string(),
            folder: folder.to_owned(),
            text,
        };
        let file = folder.join("case.toml");
        if file.is_file() {
            return Ok(Some(case(Text::Toml(text_of(&file)?))));
        }
        let json = |file: &str| {
            let text = std::fs::read_to_string(folder.join(file)).ok()?;
            serde_json::from_str::<Value>(&text).ok()
        };
        if let (Some(Value::Object(mut input)), Some(expected)) =
            (json("input.json"), json("expected.json"))
        {
            input.insert("expect".to_owned(), expected);
            let input = Value::Object(input);
            if Written::deserialize(&input).is_ok() {
                return Ok(Some(case(Text::Json(input))));
            }
        }
        eprintln!("passed over {name}: it has no case.toml");
        Ok(None)
    }

    fn written(&self, http: &str) -> Result<Written, Failure> {
        let wrong = |error: &str| {
            let path = self.folder.join("case.toml");
            Failure::failed(format!("{}: {error}", path.display()))
        };
        match &self.text {
            Text::Json(value) => Written::deserialize(value).map_err(|e| wrong(&e.to_string())),
            Text::Toml(text) => {
                let folder = std::path::absolute(&self.folder)?;
                let text = text
                    .replace("{{http}}", http)
                    .replace("{{case}}", &folder.to_string_lossy());
                toml::from_str(&text).map_err(|error| wrong(&error.to_string()))
            }
        }
    }
}

/// What stands in `case.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// As which kind, where the component is several.
    kind: Option<KindName>,
    #[serde(default = "empty")]
    config: Value,
    /// As in the configuration.
    #[serde(default)]
    grant: toml::Table,
    /// `state` before the call, as text.
    #[serde(default)]
    state: BTreeMap<String, String>,
    /// Files of the case that hold the values of secrets.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    /// `[command.NAME]`, as in the configuration.
    #[serde(default)]
    command: toml::Table,
    system: Option<System>,
    /// What the server answers.
    #[serde(default)]
    http: Vec<Answer>,
    /// Of a rule: names of its inputs.
    #[serde(default = "one_input")]
    inputs: Vec<String>,
    /// Of a rule: one round, …
    #[serde(default)]
    instances: Vec<Instance>,
    /// … or several, with the memory handed on.
    #[serde(default)]
    rounds: Vec<Round>,
    notification: Option<Notification>,
    alert: Option<AlertText>,
    #[serde(default = "first")]
    attempt: u32,
    #[serde(default)]
    dry_run: bool,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct System {
    /// A folder of the case, in which `proc`, `sys` and `etc` are looked for.
    root: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Round {
    /// Seconds since 1970.
    #[serde(default)]
    at: u64,
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    /// NaN or `null`: not known.
    values: Vec<Option<f64>>,
    #[serde(default)]
    active: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Seconds and values of each input in `points_of`.
    #[serde(default)]
    points: Vec<(u64, f64)>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notification {
    id: Option<String>,
    dedup_key: Option<String>,
    reason: Option<String>,
    title: Option<String>,
    text: Option<String>,
    #[serde(default)]
    alerts: Vec<AlertText>,
    #[serde(default)]
    extra: BTreeMap<String, String>,
}

/// An alert; what is left out is as in `plugin run`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlertText {
    fingerprint: Option<String>,
    episode: Option<u64>,
    rule: Option<String>,
    severity: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    value: Option<f64>,
    limit: Option<f64>,
    summary: Option<String>,
    /// Milliseconds since 1970.
    started_at: Option<u64>,
    ended_at: Option<u64>,
    #[serde(default)]
    extra: BTreeMap<String, String>,
}

impl Written {
    /// What a configuration would say of secrets and commands.
    fn below(&self, folder: &Path) -> Result<String, Failure> {
        let folder = std::path::absolute(folder)?;
        let secret = |(name, file): (&String, &String)| {
            let file = folder.join(file).to_string_lossy().into_owned();
            let source = toml::Table::from_iter([("file".to_owned(), file.into())]);
            (name.clone(), toml::Value::Table(source))
        };
        let mut below = toml::Table::new();
        if !self.secrets.is_empty() {
            let secrets: toml::Table = self.secrets.iter().map(secret).collect();
            below.insert("secrets".to_owned(), secrets.into());
        }
        if !self.command.is_empty() {
            below.insert("command".to_owned(), self.command.clone().into());
        }
        Ok(toml::to_string(&below)?)
    }
}

fn empty() -> Value {
    json!({})
}

fn one_input() -> Vec<String> {
    vec!["value".to_owned()]
}

fn first() -> u32 {
    1
}

/// Runs a case: what differed from what it expects, and how long the calls took.
pub(super) async fn run(
    case: &Case,
    compiled: &Compiled,
    kinds: &[Kind],
    stub_wasi: bool,
) -> Result<(Vec<String>, Duration), Failure> {
    let (listener, address) = bind().await?;
    let mut written = case.written(&address)?;
    for answer in &mut written.http {
        let file = answer.body_file.as_ref().map(|file| case.folder.join(file));
        answer.settle(file.map(|file| text_of(&file)).transpose()?);
    }
    let server = Server::start(listener, &written.http);

    let kind = match (written.kind, kinds) {
        (Some(kind), _) => kind.kind(),
        (None, &[kind]) => kind,
        (None, _) => {
            return Err(Failure::failed(format!(
                "{}: the component is of several kinds: write kind = \"…\"",
                case.name
            )));
        }
    };
    let below = vec![(
        case.folder.join("case.toml"),
        written.below(&case.folder)?.into(),
    )];
    let (grants, config) = resolve_over(below, kind, &compiled.name, &written.grant, false)?;
    let state = Arc::new(MemoryState::default());
    let before = written.state.iter();
    let before = before.map(|(key, value)| (key.clone(), Some(value.clone().into_bytes())));
    state.save(ID, before.collect()).await?;
    let mut services = HostServices {
        state: state.clone(),
        config: HostConfig {
            secrets: config.secrets,
            commands: config.commands,
            mail: None,
        },
        ..load::services()
    };
    if let Some(system) = &written.system {
        services.system = SystemSettings {
            root: case.folder.join(&system.root),
            ..SystemSettings::default()
        };
    }
    let component = compiled.load(&load::sandbox(services)?, stub_wasi)?;
    let settings = Use {
        id: ID.into(),
        config: written.config.to_string().into(),
        grants,
        limits: Limits::of_component(kind, compiled.component.len()),
    };
    let started = Instant::now();
    let gave = call(&component, kind, settings, &written).await?;
    let took = started.elapsed();
    let mut differences = written.expect.compare(&gave);
    if let Some(expected) = &written.expect.requests {
        differences.extend(compare_requests(expected, &server.came()));
    }
    if let Some(expected) = &written.expect.state {
        let after = state.of(ID);
        let after = after.iter();
        let after = after.map(|(key, value)| (key.clone(), String::from_utf8_lossy(value).into()));
        let after: BTreeMap<String, String> = after.collect();
        if after != *expected {
            differences.push(format!("state: expected {expected:?}, got {after:?}"));
        }
    }
    Ok((differences, took))
}

async fn call(
    component: &Component,
    kind: Kind,
    settings: Use,
    written: &Written,
) -> Result<Result<Gave, CallError>, Failure> {
    Ok(match kind {
        Kind::Probe => {
            let probe = component.probe(settings)?;
            match probe.configure().await {
                Ok(()) => probe.collect().await.0.map(Gave::Samples),
                Err(error) => Err(error),
            }
        }
        Kind::Rule => {
            let rule = component.rule(settings)?;
            match rule.configure(&written.inputs).await {
                Ok(needs) => judge(&rule, &needs, written).await?.map(Gave::Verdicts),
                Err(error) => Err(error),
            }
        }
        Kind::Notifier => {
            let notifier = component.notifier(settings)?;
            let message = written
                .notification
                .as_ref()
                .map_or_else(|| Ok(message(1)), |notification| notification.message())?;
            match notifier.configure().await {
                Ok(()) => notifier.notify(message).await.0.map(|receipt| {
                    let extra: BTreeMap<_, _> = receipt.extra.into_iter().collect();
                    Gave::Receipt(json!({ "remote_id": receipt.remote_id, "extra": extra }))
                }),
                Err(error) => Err(error),
            }
        }
        Kind::Action => {
            let action = component.action(settings)?;
            let about = written
                .alert
                .as_ref()
                .map_or_else(|| Ok(alert()), AlertText::alert)?;
            match action.configure().await {
                Ok(()) => {
                    let (outcome, _) = action.act(about, written.attempt, written.dry_run).await;
                    outcome.map(|outcome| {
                        Gave::Outcome(json!({ "did": outcome.did, "changed": outcome.changed }))
                    })
                }
                Err(error) => Err(error),
            }
        }
    })
}

/// Judges every round, handing the memory on.
async fn judge(
    rule: &Rule,
    needs: &Needs,
    written: &Written,
) -> Result<Result<Vec<Vec<Value>>, CallError>, Failure> {
    let single = [(0, &written.instances)];
    let several: Vec<_> = written
        .rounds
        .iter()
        .map(|r| (r.at, &r.instances))
        .collect();
    let rounds: &[(u64, &Vec<Instance>)] = if several.is_empty() {
        &single
    } else {
        &several
    };
    let mut memory: Vec<Vec<u8>> = Vec::new();
    let mut all = Vec::new();
    for (at, instances) in rounds {
        memory.resize(instances.len(), Vec::new());
        let batch = Batch {
            now_ms: at * 1_000,
            columns: columns(instances, written.inputs.len())?,
            active: instances
                .iter()
                .map(Instance::active)
                .collect::<Result<_, _>>()?,
            labels: asked(needs.labels, instances, |instance| {
                let labels = instance.labels.iter();
                labels
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect()
            }),
            memory: if needs.memory {
                memory.clone()
            } else {
                Vec::new()
            },
            points: needs
                .points_of
                .iter()
                .map(|_| {
                    let points = |instance: &Instance| {
                        let points = instance.points.iter();
                        points.map(|(at, value)| (at * 1_000, *value)).collect()
                    };
                    instances.iter().map(points).collect()
                })
                .collect(),
        };
        let verdicts = match rule.evaluate(batch).await.0 {
            Ok(verdicts) => verdicts,
            Err(error) => return Ok(Err(error)),
        };
        all.push(
            (0..instances.len())
                .map(|i| verdict(&verdicts, i))
                .collect(),
        );
        memory.clone_from(&verdicts.memory);
    }
    Ok(Ok(all))
}

fn asked<T>(wanted: bool, instances: &[Instance], each: impl Fn(&Instance) -> T) -> Vec<T> {
    if wanted {
        instances.iter().map(each).collect()
    } else {
        Vec::new()
    }
}

fn columns(instances: &[Instance], inputs: usize) -> Result<Vec<Vec<f64>>, Failure> {
    if let Some(wrong) = instances.iter().find(|one| one.values.len() != inputs) {
        return Err(Failure::failed(format!(
            "an instance has {} values and the rule {inputs} inputs: write one a input",
            wrong.values.len()
        )));
    }
    let value = |instance: &Instance, input: usize| instance.values[input].unwrap_or(f64::NAN);
    Ok((0..inputs)
        .map(|input| {
            instances
                .iter()
                .map(|instance| value(instance, input))
                .collect()
        })
        .collect())
}

impl Instance {
    fn active(&self) -> Result<Severities, Failure> {
        self.active.iter().map(|word| severity(word)).collect()
    }
}

fn severity(word: &str) -> Result<Severity, Failure> {
    word.parse().map_err(|_| {
        Failure::failed(format!(
            "{word:?} is no severity: write low, warning, high or critical"
        ))
    })
}

impl Notification {
    fn message(&self) -> Result<Message, Failure> {
        let mut sent = message(1);
        let fields = [
            (&self.id, &mut sent.id),
            (&self.dedup_key, &mut sent.dedup_key),
            (&self.reason, &mut sent.reason),
            (&self.title, &mut sent.title),
            (&self.text, &mut sent.text),
        ];
        for (written, field) in fields {
            if let Some(text) = written {
                text.clone_into(field);
            }
        }
        if !self.alerts.is_empty() {
            sent.alerts = self
                .alerts
                .iter()
                .map(AlertText::alert)
                .collect::<Result<_, _>>()?;
        }
        sent.extra = self.extra.clone().into_iter().collect();
        Ok(sent)
    }
}

impl AlertText {
    fn alert(&self) -> Result<Alert, Failure> {
        let base = alert();
        Ok(Alert {
            fingerprint: self.fingerprint.clone().unwrap_or(base.fingerprint),
            episode: self.episode.unwrap_or(base.episode),
            rule: self.rule.clone().unwrap_or(base.rule),
            severity: self
                .severity
                .as_deref()
                .map_or(Ok(base.severity), severity)?,
            labels: self
                .labels
                .clone()
                .map_or(base.labels, |all| all.into_iter().collect()),
            value: self.value.or(base.value),
            limit: self.limit.or(base.limit),
            summary: self.summary.clone().unwrap_or(base.summary),
            started_at_ms: self.started_at.unwrap_or(base.started_at_ms),
            ended_at_ms: self.ended_at,
            extra: self.extra.clone().into_iter().collect(),
        })
    }
}

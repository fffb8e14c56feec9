//! From what is written to what holds: defaults filled in, references followed, relations checked.
//!
//! A plugin that does not exist is no mistake here: it may be dropped in later, the table waits for it.

mod hours;
mod routing;
mod rules;

use super::environment::{Environment, SOCKET_PATH_BYTES_MAX};
use super::file::{At, Files, Place};
use super::model::*;
use super::raw::{self, Raw, RawAdaptive, RawGrant};
use super::read::Reader;
use crate::sandbox::types::{CommandSpec, MailServer, MailTls};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::Policy;
use watchfire_engine::model::{Labels, ProbeId};
use watchfire_engine::policy::{AlertingPolicy, DeliveryPolicy, RecoverPolicy, Regexes};

/// Wall limit and kept output of a command that says nothing: an action's usual time, and enough to read a failure.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
const COMMAND_OUTPUT_BYTES: usize = 64 << 10;

/// Interval of a probe that says nothing (product.md).
const EVERY: Duration = Duration::from_secs(10);

/// Deadline of a probe that says nothing (C13).
const TIMEOUT: Duration = Duration::from_secs(5);

/// Interval of a heartbeat that says nothing: outside services count in minutes.
const BEAT: Duration = Duration::from_secs(60);

/// Days in seconds.
const DAY_SECS: u64 = 86_400;

/// Bytes of the history of samples: 30 days of some 300 series at 10 s and half a year of roll-ups.
const METRICS_BYTES_MAX: u64 = 512 << 20;

/// What resolving one part needs of the others.
struct Context<'a> {
    reader: &'a Reader<'a>,
    files: &'a Files,
    secrets: BTreeSet<String>,
    commands: BTreeSet<String>,
    mail: bool,
    simulated: Option<Simulated>,
}

/// The configuration of a rule test: notifiers that are only named are there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Simulated {
    /// A rule that somebody else names may be gone: a reload in a test says which tables change, not
    /// what else a careful operator would have changed.
    pub(super) dangling: bool,
}

/// Fills in, follows, checks. The result is only meant to be used where the reader found no mistake.
pub(super) fn resolve(
    raw: &Raw,
    reader: &Reader<'_>,
    environment: &Environment,
    source: Source,
    simulated: Option<Simulated>,
) -> Config {
    let context = Context {
        reader,
        files: reader.files,
        secrets: raw.secrets.iter().map(|(name, _)| name.clone()).collect(),
        commands: raw.commands.iter().map(|(name, _)| name.clone()).collect(),
        mail: raw.mail.is_some(),
        simulated,
    };
    let agent = agent(&context, raw, environment);
    let api = api(&context, raw, environment, &agent);
    let plugins: BTreeMap<String, PluginConfig> = raw
        .plugins
        .iter()
        .map(|(name, p)| (name.clone(), plugin(p)))
        .collect();
    let defaults = defaults(&context, raw);
    let probes = probes(&context, raw, &defaults);
    let (rules, rule_policies) = rules::rules(&context, raw, &probes);
    let routing = routing::routing(&context, raw, &rule_policies);
    let mail = raw
        .mail
        .as_ref()
        .and_then(|mail| mail_server(&context, mail));
    let heartbeat = raw.heartbeat.as_ref().map(|heartbeat| {
        context.declared_secrets(&heartbeat.secrets, "heartbeat.url");
        HeartbeatConfig {
            url: heartbeat.url.as_str().into(),
            every: heartbeat.every.as_ref().map_or(BEAT, |every| every.value),
        }
    });
    let policy = Policy {
        host: agent.host.clone(),
        rules: rule_policies,
        routes: routing.routes,
        inhibitions: routing.inhibitions,
        maintenance: routing.maintenance,
        calendar: routing.calendar,
        regexes: Regexes::new(rules::pattern),
        procedures: routing.procedures,
        notifiers: routing.notifiers.iter().map(|n| n.id.clone()).collect(),
        alerting: alerting(raw),
        delivery: delivery(&context, raw),
        recover: recover(raw),
        seed: first_eight(&Sha256::digest(agent.host.as_bytes())),
    };
    Config {
        source,
        api,
        log: LogConfig {
            format: raw.log.format.unwrap_or_default(),
            level: raw.log.level.unwrap_or(tracing::Level::INFO),
            file: raw.log.file.as_ref().map(|file| file.value.clone()),
        },
        engine: raw.engine,
        retention: retention(raw),
        secrets: raw.secrets.iter().cloned().collect(),
        commands: raw.commands.iter().map(command).collect(),
        mail,
        heartbeat,
        plugins,
        lock: None,
        defaults,
        probes,
        rules,
        notifiers: routing.notifiers,
        recoveries: routing.recoveries,
        policy: Arc::new(policy),
        agent,
    }
}

fn agent(context: &Context<'_>, raw: &Raw, environment: &Environment) -> AgentConfig {
    let host: Arc<str> = match &raw.agent.host {
        Some(host) => host.value.as_str().into(),
        None => environment.hostname.as_str().into(),
    };
    let data_dir = match (&environment.data_dir_override, &raw.agent.data_dir) {
        (Some(given), _) => given.clone(),
        (None, Some(data_dir)) => data_dir.value.clone(),
        (None, None) => environment.data_dir(),
    };
    let own = labels(context, &raw.agent.labels);
    let host_label = Labels::new([("host", host.clone())]).unwrap_or_default();
    AgentConfig {
        labels: own.with(&host_label),
        plugins_dir: match &raw.agent.plugins {
            Some(folder) => folder.value.clone(),
            None => data_dir.join("plugins"),
        },
        data_dir,
        host,
    }
}

fn api(
    context: &Context<'_>,
    raw: &Raw,
    environment: &Environment,
    agent: &AgentConfig,
) -> ApiConfig {
    let socket = match &raw.api.socket {
        Some(socket) => socket.value.clone(),
        None => environment.socket(&agent.data_dir),
    };
    if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let at = raw
            .api
            .socket
            .as_ref()
            .or(raw.agent.data_dir.as_ref())
            .map(|p| p.at);
        context.reader.mistake(
            at.unwrap_or_default(),
            "api.socket",
            format!(
                "the socket {} has a path of more than {SOCKET_PATH_BYTES_MAX} bytes",
                socket.display()
            ),
            "set a shorter one: [api] socket = \"/run/watchfire.sock\"",
        );
    }
    ApiConfig {
        listen: raw
            .api
            .listen
            .unwrap_or(Some(std::net::SocketAddr::from(([127, 0, 0, 1], 9_465)))),
        hosts: raw.api.hosts.clone(),
        socket,
    }
}

fn plugin(raw: &raw::RawPlugin) -> PluginConfig {
    PluginConfig {
        sha256: raw.sha256,
        memory_bytes: raw.memory.and_then(|bytes| usize::try_from(bytes).ok()),
        cpu: raw.cpu,
        wall: raw.wall,
        samples: raw.samples,
        stub_wasi: raw.stub_wasi,
    }
}

fn retention(raw: &Raw) -> Retention {
    let days = |days: u64| Duration::from_secs(days * DAY_SECS);
    let raw = &raw.retention;
    Retention {
        alerts: raw.alerts.unwrap_or(days(180)),
        events: raw.events.unwrap_or(days(90)),
        metrics: raw.metrics.unwrap_or(days(30)),
        rollups: raw.rollups.unwrap_or(days(180)),
        metrics_bytes_max: raw.metrics_bytes_max.unwrap_or(METRICS_BYTES_MAX),
    }
}

fn command((name, raw): &(String, raw::RawCommand)) -> (String, CommandSpec) {
    let spec = CommandSpec {
        argv: raw.argv.clone(),
        user: raw.user.clone(),
        cwd: raw.cwd.clone(),
        env: raw.env.clone(),
        stdin: raw.stdin.unwrap_or(false),
        timeout: raw.timeout.unwrap_or(COMMAND_TIMEOUT),
        max_output_bytes: raw
            .max_output
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(COMMAND_OUTPUT_BYTES),
    };
    (name.clone(), spec)
}

fn mail_server(context: &Context<'_>, raw: &raw::RawMail) -> Option<MailServer> {
    context.declared_secrets(&raw.secrets, "mail");
    let tls = raw.tls.unwrap_or(match raw.port {
        Some(465) => MailTls::Wrapped,
        _ => MailTls::StartTls,
    });
    Some(MailServer {
        host: raw.host.clone()?,
        port: raw.port.unwrap_or(match tls {
            MailTls::Wrapped => 465,
            MailTls::StartTls => 587,
            MailTls::None => 25,
        }),
        tls,
        user: raw.user.clone(),
        password: raw.password.clone(),
        from: raw.from.clone()?,
    })
}

fn defaults(context: &Context<'_>, raw: &Raw) -> ProbeDefaults {
    let raw = &raw.defaults;
    ProbeDefaults {
        every: raw.every.as_ref().map_or(EVERY, |every| every.value),
        timeout: raw
            .timeout
            .as_ref()
            .map_or(TIMEOUT, |timeout| timeout.value),
        jitter: raw
            .jitter
            .as_ref()
            .map_or(Duration::ZERO, |jitter| jitter.value),
        adaptive: match &raw.adaptive {
            raw::RawAdaptiveChoice::On(wanted) => Some(adaptive(context, wanted)),
            _ => None,
        },
    }
}

fn adaptive(context: &Context<'_>, raw: &RawAdaptive) -> Adaptive {
    let adaptive = Adaptive {
        min: raw.min.unwrap_or(Duration::from_secs(10)),
        max: raw.max.unwrap_or(Duration::from_secs(120)),
        calm: raw.calm.unwrap_or(5),
        grow: raw.grow.unwrap_or(1.2),
        shrink: raw.shrink.unwrap_or(2.0),
    };
    if adaptive.min > adaptive.max {
        context.reader.mistake(
            raw.at,
            "adaptive",
            "`adaptive` has a min above its max",
            "write adaptive = { min = \"10s\", max = \"120s\" }",
        );
    }
    adaptive
}

fn probes(context: &Context<'_>, raw: &Raw, defaults: &ProbeDefaults) -> Vec<ProbeConfig> {
    context.duplicates("probe", raw.probes.iter().map(|probe| &probe.id));
    raw.probes
        .iter()
        .map(|probe| {
            let path = format!("probe[{}]", probe.id.value);
            context.grants(&probe.grant, &probe.config.secrets, &path);
            ProbeConfig {
                id: ProbeId::new(probe.id.value.as_str()),
                plugin: probe.plugin.as_str().into(),
                every: probe
                    .every
                    .as_ref()
                    .map_or(defaults.every, |every| every.value),
                timeout: probe.timeout.as_ref().map_or(defaults.timeout, |t| t.value),
                jitter: probe.jitter.as_ref().map_or(defaults.jitter, |j| j.value),
                adaptive: match &probe.adaptive {
                    raw::RawAdaptiveChoice::Unset => defaults.adaptive,
                    raw::RawAdaptiveChoice::Off => None,
                    raw::RawAdaptiveChoice::On(wanted) => Some(adaptive(context, wanted)),
                },
                grant: Arc::new(probe.grant.grants.clone()),
                config: probe.config.value.to_string().into(),
                labels: labels(context, &probe.labels),
            }
        })
        .collect()
}

fn alerting(raw: &Raw) -> AlertingPolicy {
    let standard = AlertingPolicy::default();
    let raw = &raw.alerting;
    AlertingPolicy {
        stale_after: raw
            .stale_after
            .as_ref()
            .map(|stale| stale.value)
            .or(standard.stale_after),
        gone_after: raw.gone_after.unwrap_or(standard.gone_after),
        outage_tolerance: raw.outage_tolerance.unwrap_or(standard.outage_tolerance),
        meta_keep: raw.meta_keep.unwrap_or(standard.meta_keep),
        flapping: raw.flapping.unwrap_or(standard.flapping),
    }
}

fn delivery(context: &Context<'_>, raw: &Raw) -> DeliveryPolicy {
    let standard = DeliveryPolicy::default();
    let raw = &raw.delivery;
    let policy = DeliveryPolicy {
        first_retry: raw
            .first_retry
            .as_ref()
            .map_or(standard.first_retry, |r| r.value),
        factor: raw.factor.unwrap_or(standard.factor),
        max_retry: raw
            .max_retry
            .as_ref()
            .map_or(standard.max_retry, |r| r.value),
        jitter: raw.jitter.unwrap_or(standard.jitter),
        fallback: raw
            .fallback
            .as_ref()
            .map(|fallback| fallback.value.as_str().into()),
    };
    if policy.first_retry > policy.max_retry {
        let at = raw
            .first_retry
            .as_ref()
            .or(raw.max_retry.as_ref())
            .map(|r| r.at);
        context.reader.mistake(
            at.unwrap_or_default(),
            "delivery.first_retry",
            "`first_retry` is longer than `max_retry`",
            "write first_retry = \"5s\" and max_retry = \"5m\"",
        );
    }
    policy
}

fn recover(raw: &Raw) -> RecoverPolicy {
    let standard = RecoverPolicy::default();
    let raw = &raw.recover;
    RecoverPolicy {
        concurrency: raw.concurrency.unwrap_or(standard.concurrency),
        per_hour: raw.per_hour.unwrap_or(standard.per_hour),
        boot_grace: raw.boot_grace.unwrap_or(standard.boot_grace),
        paused: raw.paused.unwrap_or(standard.paused),
    }
}

impl Context<'_> {
    /// Whether a name of a rule that is not there is let pass.
    fn lets_dangle(&self) -> bool {
        self.simulated.is_some_and(|simulated| simulated.dangling)
    }

    /// Reports every id that stands twice, with both places.
    fn duplicates<'i>(&self, table: &str, ids: impl Iterator<Item = &'i At<String>>) {
        let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
        for id in ids {
            if let Some(first) = seen.get(id.value.as_str()) {
                self.reader.mistake(
                    id.at,
                    &format!("{table}[{}].id", id.value),
                    format!("there are two [[{table}]] with the id {:?}", id.value),
                    format!(
                        "the other one is at {}; rename one",
                        self.files.name_place(*first)
                    ),
                );
            } else {
                seen.insert(&id.value, id.at);
            }
        }
    }

    /// Checks what a grant refers to, and that every secret of the configuration is granted.
    fn grants(&self, grant: &RawGrant, used: &[At<String>], path: &str) {
        for name in &grant.commands {
            if !self.commands.contains(&name.value) {
                let meant = self
                    .reader
                    .near(&name.value, self.commands.iter().map(String::as_str));
                self.reader.absence(
                    name.at,
                    &format!("{path}.grant.commands"),
                    format!("no command is called {:?}", name.value),
                    match meant {
                        Some(meant) => format!("did you mean {meant:?}?"),
                        None => format!(
                            "write it down: [command.{}] argv = [\"/usr/bin/…\"]",
                            name.value
                        ),
                    },
                );
            }
        }
        if let Some(at) = grant.mail.filter(|_| !self.mail) {
            self.reader.absence(
                at,
                &format!("{path}.grant.mail"),
                "mail is granted, and there is no [mail] server",
                "write [mail] host = \"mail.example.org\", from = \"watchfire@example.org\"",
            );
        }
        self.declared_secrets(&grant.secrets, &format!("{path}.grant.secrets"));
        let mut told = BTreeSet::new();
        for secret in used {
            if !told.insert(&secret.value) {
                continue;
            }
            if grant.grants.secrets.contains_key(&secret.value) {
                continue; // Whether it is declared was asked of the grant.
            }
            self.declared_secrets(std::slice::from_ref(secret), &format!("{path}.config"));
            self.reader.absence(
                secret.at,
                &format!("{path}.config"),
                format!("the secret {:?} is used and not granted", secret.value),
                format!(
                    "say where it may go: grant.secrets = {{ {} = \"HOST\" }}",
                    secret.value
                ),
            );
        }
    }

    fn declared_secrets(&self, names: &[At<String>], path: &str) {
        for name in names {
            if !self.secrets.contains(&name.value) {
                let meant = self
                    .reader
                    .near(&name.value, self.secrets.iter().map(String::as_str));
                self.reader.absence(
                    name.at,
                    path,
                    format!("no secret is called {:?}", name.value),
                    match meant {
                        Some(meant) => format!("did you mean {meant:?}?"),
                        None => format!("write [secrets] {} = {{ env = \"NAME\" }}", name.value),
                    },
                );
            }
        }
    }
}

/// Labels whose names were checked while reading.
fn labels(context: &Context<'_>, raw: &[(At<String>, String)]) -> Labels {
    match Labels::new(
        raw.iter()
            .map(|(name, value)| (name.value.as_str(), value.as_str())),
    ) {
        Ok(labels) => labels,
        Err(error) => {
            let at = raw.first().map(|(name, _)| name.at).unwrap_or_default();
            context.reader.mistake(at, "labels", error.to_string(), "");
            Labels::default()
        }
    }
}

/// The first eight bytes of a digest as a number.
fn first_eight(digest: &[u8]) -> u64 {
    digest
        .iter()
        .take(8)
        .fold(0, |n, byte| n << 8 | u64::from(*byte))
}

//! The tables that stand once and describe the agent and its means: `[agent]` to `[plugin.NAME]`.

use super::super::file::At;
use super::super::read::{Table, is_name, secret_references};
use crate::config::LogFormat;
use crate::config::model::EngineConfig;
use crate::sandbox::HAS_INTERPRETER;
use crate::sandbox::types::{MailTls, SecretSource};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `[agent]`.
#[derive(Debug, Default)]
pub(crate) struct RawAgent {
    pub(crate) host: Option<At<String>>,
    pub(crate) labels: Vec<(At<String>, String)>,
    pub(crate) data_dir: Option<At<PathBuf>>,
    pub(crate) plugins: Option<At<PathBuf>>,
    pub(crate) packs: Vec<At<String>>,
}

pub(super) fn agent(root: &Table<'_, '_>) -> RawAgent {
    let Some(table) = root.table("agent") else {
        return RawAgent::default();
    };
    // `include` and `packs` of the main file were followed before this; here only their type is
    // checked. That they stand in another file is told elsewhere.
    let first = |key| {
        table
            .all(key)
            .first()
            .and_then(|entry| entry.strings(false))
    };
    first("include");
    let packs = first("packs").unwrap_or_default();
    let host = table.string("host").filter(|host| {
        let good = !host.value.is_empty()
            && host.value.len() <= 253
            && !host.value.contains(char::is_control);
        if !good {
            table.reader().mistake(
                host.at,
                "agent.host",
                "`host` is no name",
                "write host = \"web-1\", or leave it out for the host's own name",
            );
        }
        good
    });
    let labels = super::labels(&table, "labels");
    for (name, _) in &labels {
        if name.value == "host" {
            table.reader().mistake(
                name.at,
                "agent.labels.host",
                "the label `host` is set by the agent",
                "write host = \"…\" in [agent]",
            );
        }
    }
    let raw = RawAgent {
        host,
        labels,
        data_dir: table.path_of("data_dir"),
        plugins: table.path_of("plugins"),
        packs,
    };
    table.finish();
    raw
}

/// `[api]`.
#[derive(Debug, Default)]
pub(crate) struct RawApi {
    /// Inner `None`: `listen = ""`.
    pub(crate) listen: Option<Option<SocketAddr>>,
    pub(crate) hosts: Vec<String>,
    pub(crate) socket: Option<At<PathBuf>>,
}

pub(super) fn api(root: &Table<'_, '_>) -> RawApi {
    let Some(table) = root.table("api") else {
        return RawApi::default();
    };
    let listen = table.get("listen").and_then(|entry| {
        let text = entry.string()?.value;
        if text.is_empty() {
            return Some(None);
        }
        match text.replacen("localhost:", "127.0.0.1:", 1).parse() {
            Ok(address) => Some(Some(address)),
            Err(_) => {
                entry.wrong(
                    &format!("wants an IP address and a port, found {text:?}"),
                    "write listen = \"127.0.0.1:9465\", or \"\" for no TCP listener",
                );
                None
            }
        }
    });
    let raw = RawApi {
        listen,
        hosts: texts(table.strings("hosts")),
        socket: table.path_of("socket"),
    };
    table.finish();
    raw
}

/// `[log]`.
#[derive(Debug, Default)]
pub(crate) struct RawLog {
    pub(crate) format: Option<LogFormat>,
    pub(crate) level: Option<tracing::Level>,
    pub(crate) file: Option<At<PathBuf>>,
}

pub(super) fn log(root: &Table<'_, '_>) -> RawLog {
    let Some(table) = root.table("log") else {
        return RawLog::default();
    };
    let raw = RawLog {
        format: one_of(
            &table,
            "format",
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        ),
        level: one_of(
            &table,
            "level",
            &[
                ("error", tracing::Level::ERROR),
                ("warn", tracing::Level::WARN),
                ("info", tracing::Level::INFO),
                ("debug", tracing::Level::DEBUG),
                ("trace", tracing::Level::TRACE),
            ],
        ),
        file: table.path_of("file"),
    };
    table.finish();
    raw
}

/// `[engine]`.
pub(super) fn engine(root: &Table<'_, '_>) -> EngineConfig {
    let Some(table) = root.table("engine") else {
        return EngineConfig::default();
    };
    let engine = EngineConfig {
        small_address_space: table.boolean("small_address_space"),
        interpreter: table.boolean("interpreter"),
    };
    if engine.interpreter == Some(true) && !HAS_INTERPRETER {
        table.refuse(
            &["interpreter"],
            "needs a watchfire that was built with `--features pulley`",
            "take it out: plugins run as native code",
        );
    }
    table.finish();
    engine
}

/// The least that a history may be bounded to: below, the newest 20 minutes of a few thousand series do
/// not fit.
const METRICS_BYTES_LEAST: u64 = 4 << 20;

/// `[retention]`.
#[derive(Debug, Default)]
pub(crate) struct RawRetention {
    pub(crate) alerts: Option<Duration>,
    pub(crate) events: Option<Duration>,
    pub(crate) metrics: Option<Duration>,
    pub(crate) rollups: Option<Duration>,
    pub(crate) metrics_bytes_max: Option<u64>,
}

pub(super) fn retention(root: &Table<'_, '_>) -> RawRetention {
    let Some(table) = root.table("retention") else {
        return RawRetention::default();
    };
    let raw = RawRetention {
        alerts: value(table.duration("alerts")),
        events: value(table.duration("events")),
        metrics: value(table.duration("metrics")),
        rollups: value(table.duration("rollups")),
        metrics_bytes_max: history_bytes(&table),
    };
    // It comes with log files of our own.
    table.later(&["logs"]);
    table.finish();
    raw
}

fn history_bytes(table: &Table<'_, '_>) -> Option<u64> {
    let entry = table.get("metrics_bytes_max")?;
    let bytes = entry.size()?.value;
    if bytes < METRICS_BYTES_LEAST {
        entry.wrong(
            "is too small for a history of samples",
            "write at least \"4MiB\"; a hundred series at 10s take some 4 MiB a day",
        );
        return None;
    }
    Some(bytes)
}

pub(super) fn secrets(root: &Table<'_, '_>) -> Vec<(String, SecretSource)> {
    let Some(table) = root.table("secrets") else {
        return Vec::new();
    };
    let mut secrets = Vec::new();
    for entry in table.entries() {
        if !is_name(&entry.name) {
            entry.wrong(
                "cannot be the name of a secret",
                "use letters, digits, `_` and `-`",
            );
            continue;
        }
        if !entry.is_table() {
            // The value itself must not be repeated in the message.
            entry.wrong(
                "must say where the secret is, a secret itself has no place in this file",
                format!("write {0} = {{ env = \"NAME\" }} or {0} = {{ file = \"/run/credentials/{0}\" }}", entry.name),
            );
            continue;
        }
        let Some(source) = entry.table() else {
            continue;
        };
        let env = source.string("env");
        let file = source.path_of("file");
        source.finish();
        let source = match (env, file) {
            (Some(env), None) => SecretSource::Env(env.value),
            (None, Some(file)) => SecretSource::File(file.value),
            _ => {
                entry.wrong(
                    "wants either env or file",
                    format!("write {} = {{ env = \"NAME\" }}", entry.name),
                );
                continue;
            }
        };
        secrets.push((entry.name.clone(), source));
    }
    secrets
}

/// `[command.NAME]`.
#[derive(Debug)]
pub(crate) struct RawCommand {
    pub(crate) argv: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stdin: Option<bool>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_output: Option<u64>,
}

pub(super) fn commands(root: &Table<'_, '_>) -> Vec<(String, RawCommand)> {
    let Some(all) = root.table("command") else {
        return Vec::new();
    };
    let mut commands = Vec::new();
    for entry in all.entries() {
        if !is_name(&entry.name) {
            entry.wrong(
                "cannot be the name of a command",
                "use letters, digits, `_` and `-`",
            );
        }
        let Some(table) = entry.table() else { continue };
        let argv = table.get("argv").and_then(|entry| {
            let argv = texts(Some(entry.strings(false)?));
            match argv.first() {
                None => {
                    entry.wrong(
                        "names no program",
                        "write argv = [\"/usr/bin/systemctl\", \"reload\", \"nginx\"]",
                    );
                    None
                }
                Some(program) if !program.starts_with('/') => {
                    entry.wrong(
                        &format!(
                            "must start with the absolute path of a program, found {program:?}"
                        ),
                        "there is no shell and no PATH: write argv = [\"/usr/bin/…\", …]",
                    );
                    None
                }
                Some(_) => Some(argv),
            }
        });
        if !table.has("argv") {
            table.missing(
                "argv",
                "write argv = [\"/usr/bin/…\", …]; there is no shell",
            );
        }
        let mut env = BTreeMap::new();
        if let Some(variables) = table.table("env") {
            for variable in variables.entries() {
                if let Some(value) = variable.string() {
                    env.insert(variable.name.clone(), value.value);
                }
            }
        }
        let raw = RawCommand {
            argv: argv.unwrap_or_default(),
            user: table.string("user").map(|user| user.value),
            cwd: table.path_of("cwd").map(|cwd| cwd.value),
            env,
            stdin: table.boolean("stdin"),
            timeout: value(table.duration("timeout")),
            max_output: table
                .get("max_output")
                .and_then(|entry| entry.size())
                .map(|size| size.value),
        };
        table.finish();
        commands.push((entry.name.clone(), raw));
    }
    commands
}

/// `[mail]`.
#[derive(Debug)]
pub(crate) struct RawMail {
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) tls: Option<MailTls>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) secrets: Vec<At<String>>,
}

pub(super) fn mail(root: &Table<'_, '_>) -> Option<RawMail> {
    let table = root.table("mail")?;
    let mut secrets = Vec::new();
    let mut login = |key| {
        let text = table.string(key)?;
        for name in secret_references(&text.value) {
            match name {
                Ok(name) => secrets.push(At {
                    value: name.to_owned(),
                    at: text.at,
                }),
                Err(wrong) => table.reader().mistake(
                    text.at,
                    &format!("mail.{key}"),
                    format!("`{{{{{wrong}}}}}` is no reference to a secret"),
                    "write {{secret:NAME}}, without spaces",
                ),
            }
        }
        Some(text.value)
    };
    let user = login("user");
    let password = login("password");
    let raw = RawMail {
        host: table.string("host").map(|host| host.value),
        port: table
            .integer("port", 1, 65_535)
            .and_then(|port| u16::try_from(port.value).ok()),
        tls: one_of(
            &table,
            "tls",
            &[
                ("starttls", MailTls::StartTls),
                ("tls", MailTls::Wrapped),
                ("none", MailTls::None),
            ],
        ),
        user,
        password,
        from: table.string("from").map(|from| from.value),
        secrets,
    };
    if !table.has("host") {
        table.missing("host", "write host = \"mail.example.org\"");
    }
    match &raw.from {
        None if !table.has("from") => {
            table.missing("from", "write from = \"watchfire@example.org\"")
        }
        Some(from) if !from.contains('@') => {
            if let Some(entry) = table.get("from") {
                entry.wrong(
                    "is no mail address",
                    "write from = \"watchfire@example.org\"",
                );
            }
        }
        _ => {}
    }
    table.finish();
    Some(raw)
}

/// `[plugin.NAME]`.
#[derive(Debug, Default)]
pub(crate) struct RawPlugin {
    pub(crate) sha256: Option<[u8; 32]>,
    pub(crate) memory: Option<u64>,
    pub(crate) cpu: Option<Duration>,
    pub(crate) wall: Option<Duration>,
    pub(crate) samples: Option<usize>,
    pub(crate) stub_wasi: bool,
}

pub(super) fn plugins(root: &Table<'_, '_>) -> Vec<(String, RawPlugin)> {
    let Some(all) = root.table("plugin") else {
        return Vec::new();
    };
    let mut plugins = Vec::new();
    for entry in all.entries() {
        let Some(table) = entry.table() else { continue };
        let mut raw = RawPlugin {
            sha256: table.get("sha256").and_then(|entry| {
                let digest = parse_sha256(&entry.string()?.value);
                if digest.is_none() {
                    entry.wrong(
                        "wants 64 hexadecimal digits",
                        "`sha256sum FILE.wasm` prints them",
                    );
                }
                digest
            }),
            stub_wasi: one_of(&table, "wasi", &[("stub", ())]).is_some(),
            ..RawPlugin::default()
        };
        if let Some(limits) = table.table("limits") {
            raw.memory = limits.get("memory").and_then(|entry| {
                let size = entry.size()?.value;
                // A component's first memory page and stack need about a megabyte; more than 1 GiB is no lean agent.
                if !(1 << 20..=1 << 30).contains(&size) {
                    entry.wrong("wants a size from 1MiB to 1GiB", "write memory = \"64MiB\"");
                    return None;
                }
                Some(size)
            });
            raw.cpu = value(limits.duration("cpu"));
            raw.wall = value(limits.duration("wall"));
            raw.samples = limits
                .integer("samples", 1, 1_000_000)
                .and_then(|samples| usize::try_from(samples.value).ok());
            limits.finish();
        }
        for key in ["grant", "config"] {
            if table.has(key) {
                table.refuse(
                    if key == "grant" {
                        &["grant"]
                    } else {
                        &["config"]
                    },
                    "belongs to one use of a plugin, not to the component",
                    "write it in the table of the [[probe]], [[notifier]] or [[recovery]]",
                );
            }
        }
        table.finish();
        plugins.push((entry.name.clone(), raw));
    }
    plugins
}

/// The value alone.
pub(super) fn value<T>(at: Option<At<T>>) -> Option<T> {
    at.map(|at| at.value)
}

/// The texts alone.
pub(super) fn texts(list: Option<Vec<At<String>>>) -> Vec<String> {
    list.unwrap_or_default()
        .into_iter()
        .map(|text| text.value)
        .collect()
}

/// A small count.
pub(super) fn count(table: &Table<'_, '_>, key: &'static str, min: i64, max: i64) -> Option<u32> {
    table
        .integer(key, min, max)
        .and_then(|n| u32::try_from(n.value).ok())
}

/// One of a few words.
pub(super) fn one_of<T: Clone>(
    table: &Table<'_, '_>,
    key: &'static str,
    words: &[(&'static str, T)],
) -> Option<T> {
    let entry = table.get(key)?;
    let text = entry.string()?.value;
    if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text) {
        return Some(meant.clone());
    }
    let all: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    entry.wrong(
        &format!("cannot be {text:?}"),
        format!("write {}", all.join(" or ")),
    );
    None
}

/// 64 hexadecimal digits.
pub(crate) fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(digest)
}

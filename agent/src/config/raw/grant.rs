//! `grant = { … }`: what the operator allows one use of a plugin.

use super::super::file::At;
use super::super::read::{Entry, Table};
use super::settings::texts;
use crate::sandbox::types::{Grants, SecretGrant};

/// Who is granted something; not every kind of plugin can use everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    Probe,
    Notifier,
    Recovery,
}

/// The grants, and what they refer to.
#[derive(Debug, Default)]
pub(crate) struct RawGrant {
    pub(crate) grants: Grants,
    pub(crate) commands: Vec<At<String>>,
    pub(crate) secrets: Vec<At<String>>,
    /// Where `mail = true` stands.
    pub(crate) mail: Option<super::Place>,
}

pub(super) fn grant(owner: &Table<'_, '_>, user: User) -> RawGrant {
    let Some(table) = owner.table("grant") else {
        return RawGrant::default();
    };
    let mut raw = RawGrant::default();
    if user == User::Recovery {
        raw.grants.services = checked(&table, "services", service);
        raw.grants.signals = checked(&table, "signals", signal);
        raw.grants.delete = checked(&table, "delete", absolute_glob);
    } else {
        table.refuse(
            &["services", "signals", "delete"],
            "can only be granted to a [[recovery]]",
            "",
        );
    }
    raw.grants.system = table.boolean("system").unwrap_or(false);
    raw.grants.http = checked(&table, "http", origin);
    raw.grants.tcp = checked(&table, "tcp", address);
    raw.grants.dns = texts(table.strings("dns"));
    raw.grants.files = checked(&table, "files", absolute_glob);
    raw.grants.insecure = table.boolean("insecure").unwrap_or(false);
    raw.grants.mail = table.boolean("mail").unwrap_or(false);
    if raw.grants.mail {
        raw.mail = table.get("mail").map(|entry| entry.at);
    }
    raw.commands = table.strings("commands").unwrap_or_default();
    raw.grants.commands = raw.commands.iter().map(|name| name.value.clone()).collect();
    if let Some(secrets) = table.table("secrets") {
        for entry in secrets.entries() {
            if let Some(secret) = secret(&entry) {
                raw.secrets.push(At {
                    value: entry.name.clone(),
                    at: entry.key_at,
                });
                raw.grants.secrets.insert(entry.name.clone(), secret);
            }
        }
    }
    table.finish();
    raw
}

fn secret(entry: &Entry<'_, '_>) -> Option<SecretGrant> {
    let (to, reveal) = if entry.is_table() {
        let table = entry.table()?;
        let to = table.string("to");
        let reveal = table.boolean("reveal").unwrap_or(false);
        if !table.has("to") {
            table.missing("to", "say where the secret may go: to = \"127.0.0.1:5432\"");
        }
        table.finish();
        (to?, reveal)
    } else {
        (entry.string()?, false)
    };
    if to.value.is_empty() || to.value.contains("//") || to.value.contains(char::is_whitespace) {
        entry.wrong(
            &format!("wants a host or host:port, found {:?}", to.value),
            format!("write {} = \"hooks.slack.com\"", entry.name),
        );
        return None;
    }
    Some(SecretGrant {
        to: to.value,
        reveal,
    })
}

/// The strings of a list that pass `check`; its error is a message and a help.
fn checked(
    table: &Table<'_, '_>,
    key: &'static str,
    check: fn(&str) -> Result<(), (&'static str, &'static str)>,
) -> Vec<String> {
    let mut good = Vec::new();
    for text in table.strings(key).unwrap_or_default() {
        match check(&text.value) {
            Ok(()) => good.push(text.value),
            Err((message, help)) => table.reader().mistake(
                text.at,
                &format!("{}.{key}", table.path()),
                format!("{:?} {message}", text.value),
                help,
            ),
        }
    }
    good
}

fn origin(text: &str) -> Result<(), (&'static str, &'static str)> {
    const HELP: &str =
        "write \"https://hooks.slack.com:443\", \"http://127.0.0.1:*\" or \"http://10.0.0.0/8:*\"";
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or((
            "names no scheme: only http:// and https:// can be granted",
            HELP,
        ))?;
    if rest.is_empty() || rest.contains(char::is_whitespace) || rest.contains('@') {
        return Err(("is no origin", HELP));
    }
    let Some((host, port)) = rest
        .rsplit_once(':')
        .filter(|(_, port)| !port.contains(']'))
    else {
        return Err(("names no port", HELP));
    };
    if host.is_empty() || !(port == "*" || port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err((
            "has no valid port: a grant is scheme://host:port without a path",
            HELP,
        ));
    }
    if host.contains(['?', '#']) {
        return Err(("is no origin: a grant has no path", HELP));
    }
    match host.split_once('/') {
        Some((_, bits)) if bits.parse::<u8>().is_ok_and(|bits| bits <= 128) => Ok(()),
        Some(_) => Err(("has a path: a grant is scheme://host:port", HELP)),
        None => Ok(()),
    }
}

fn address(text: &str) -> Result<(), (&'static str, &'static str)> {
    const HELP: &str = "write \"127.0.0.1:6379\" or \"unix:/run/redis.sock\"";
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.starts_with('/') {
            Ok(())
        } else {
            Err(("names no absolute path", HELP))
        };
    }
    if text.contains("//") {
        return Err(("is a URL: tcp wants host:port", HELP));
    }
    match text.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty()
                && (port == "*" || port.parse::<u16>().is_ok_and(|port| port > 0)) =>
        {
            Ok(())
        }
        _ => Err(("is no host:port", HELP)),
    }
}

fn absolute_glob(text: &str) -> Result<(), (&'static str, &'static str)> {
    if !text.starts_with('/') {
        Err((
            "is no absolute path",
            "write for example \"/var/log/*.log\"",
        ))
    } else if text.split('/').any(|part| part == "..") {
        Err(("climbs with `..`", "write the path without `..`"))
    } else {
        Ok(())
    }
}

fn service(text: &str) -> Result<(), (&'static str, &'static str)> {
    match text.rsplit_once(':') {
        Some((unit, "start" | "stop" | "restart" | "reload")) if !unit.is_empty() => Ok(()),
        _ => Err((
            "is no UNIT:VERB",
            "write \"nginx.service:restart\"; verbs are start, stop, restart, reload",
        )),
    }
}

fn signal(text: &str) -> Result<(), (&'static str, &'static str)> {
    match text.rsplit_once(':') {
        Some((name, signal))
            if !name.is_empty()
                && !signal.is_empty()
                && !signal.starts_with("SIG")
                && signal
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) =>
        {
            Ok(())
        }
        _ => Err((
            "is no NAME:SIGNAL",
            "write \"nginx:TERM\": the signal's name in capitals, without SIG",
        )),
    }
}

//! The host's functions, natively: the same list as in a component, answered from the script.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::{Answers, CURRENT, Control, Event, Log, Peer, Run, Script};
use crate::host::{commands, control, dns, files, http, log, mail, system, tcp};
use crate::{Error, Pairs, Result, Timestamp};

/// Runs on the thread's script; `None` where there is no host.
fn script<R>(call: impl FnOnce(&mut Script) -> R) -> Option<R> {
    let current = CURRENT.with_borrow(Clone::clone)?;
    let mut script = current.borrow_mut();
    Some(call(&mut script))
}

/// As [`script`], for what needs a grant.
fn granted<R>(what: &str, call: impl FnOnce(&mut Script) -> Result<R>) -> Result<R> {
    script(call).unwrap_or_else(|| {
        Err(Error::denied(format!(
            "{what}: there is no mock::Host on this thread"
        )))
    })
}

fn unscripted(what: &str) -> Error {
    Error::denied(format!("{what} is not scripted in the mock::Host"))
}

fn next<T: Clone>(answers: &mut Answers<T>, key: &str) -> Option<Result<T>> {
    let answers: &mut VecDeque<_> = answers.get_mut(key)?;
    if answers.len() > 1 {
        answers.pop_front()
    } else {
        answers.front().cloned()
    }
}

pub(crate) fn now() -> Timestamp {
    script(|script| script.now).unwrap_or_default()
}

pub(crate) fn log_emit(level: log::Level, message: &str, fields: Pairs) {
    script(|script| {
        script.logs.push(Log {
            level,
            message: message.into(),
            fields,
        });
    });
}

pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>> {
    granted("state", |script| Ok(script.state.get(key).cloned()))
}

pub(crate) fn state_set(key: &str, value: &[u8]) -> Result<()> {
    granted("state", |script| {
        script.state.insert(key.into(), value.into());
        Ok(())
    })
}

pub(crate) fn state_delete(key: &str) -> Result<()> {
    granted("state", |script| {
        script.state.remove(key);
        Ok(())
    })
}

pub(crate) fn system_hostname() -> String {
    script(|script| script.hostname.clone()).unwrap_or_default()
}

pub(crate) fn system_read(families: &[String]) -> Result<Vec<system::Reading>> {
    granted("system", |script| {
        let asked = script
            .readings
            .iter()
            .filter(|(family, _)| families.contains(family));
        Ok(asked.map(|(_, reading)| reading.clone()).collect())
    })
}

pub(crate) fn system_processes(name: &str) -> Result<Vec<system::Process>> {
    granted("system", |script| {
        let asked = script
            .processes
            .iter()
            .filter(|process| name.is_empty() || process.name == name);
        Ok(asked.cloned().collect())
    })
}

pub(crate) fn system_services(pattern: &str) -> Result<Vec<system::Service>> {
    granted("system", |script| {
        let asked = script
            .services
            .iter()
            .filter(|service| matches(pattern.as_bytes(), service.unit.as_bytes(), true));
        Ok(asked.cloned().collect())
    })
}

pub(crate) fn files_read(path: &str, offset: u64, limit: u32) -> Result<files::Chunk> {
    granted("files", |script| {
        let (bytes, file) = script
            .files
            .get(path)
            .ok_or_else(|| Error::unavailable(format!("{path}: no such file")))?;
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let end = start.saturating_add(limit as usize).min(bytes.len());
        Ok(files::Chunk {
            bytes: bytes[start..end].into(),
            file: *file,
        })
    })
}

pub(crate) fn files_stat(path: &str) -> Result<Option<files::Metadata>> {
    granted("files", |script| {
        Ok(script.files.get(path).map(|(_, metadata)| *metadata))
    })
}

pub(crate) fn files_listing(glob: &str) -> Result<Vec<String>> {
    granted("files", |script| {
        Ok(script
            .files
            .keys()
            .filter(|path| matches(glob.as_bytes(), path.as_bytes(), false))
            .cloned()
            .collect())
    })
}

/// Glob with `*` and `?`, which do not cross a `/` unless `across`.
fn matches(glob: &[u8], text: &[u8], across: bool) -> bool {
    match (glob.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), first) => {
            let goes_on = first.is_some_and(|byte| across || *byte != b'/');
            matches(&glob[1..], text, across) || (goes_on && matches(glob, &text[1..], across))
        }
        (Some(b'?'), Some(byte)) if across || *byte != b'/' => {
            matches(&glob[1..], &text[1..], across)
        }
        (Some(wanted), Some(byte)) if wanted == byte => matches(&glob[1..], &text[1..], across),
        _ => false,
    }
}

pub(crate) fn secrets_reveal(name: &str) -> Result<String> {
    granted("secrets", |script| {
        script
            .secrets
            .get(name)
            .cloned()
            .ok_or_else(|| unscripted(&format!("the secret {name:?}")))
    })
}

pub(crate) fn http_send(request: &http::Request) -> Result<http::Response> {
    granted("http", |script| {
        script.requests.push(request.clone());
        let key = format!("{} {}", request.method, request.url);
        next(&mut script.http, &key).unwrap_or_else(|| Err(unscripted(&key)))
    })
}

/// A connection to a scripted peer.
pub(crate) struct Connection {
    name: String,
    peer: Peer,
    certificate: Option<i64>,
    incoming: RefCell<VecDeque<u8>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.name)
    }
}

impl Connection {
    fn open(name: String) -> Result<Self> {
        let (peer, certificate): (Peer, _) = granted("tcp", |script| {
            let (peer, certificate) = script.peers.get(&name).ok_or_else(|| unscripted(&name))?;
            Ok((Rc::clone(peer), *certificate))
        })?;
        let greeting = peer.borrow_mut()(b"");
        Ok(Connection {
            name,
            peer,
            certificate,
            incoming: RefCell::new(greeting.into()),
        })
    }

    #[expect(clippy::unused_self, reason = "the same call as in a component")]
    pub(crate) fn elapsed_us(&self) -> u64 {
        1000
    }

    pub(crate) fn certificate_seconds_left(&self) -> Option<i64> {
        self.certificate
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<()> {
        script(|script| {
            script
                .sent
                .entry(self.name.clone())
                .or_default()
                .extend_from_slice(bytes)
        });
        let answer = self.peer.borrow_mut()(bytes);
        self.incoming.borrow_mut().extend(answer);
        Ok(())
    }

    pub(crate) fn send_filled(&self, bytes: &[u8]) -> Result<()> {
        self.send(bytes)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the same call as in a component")]
    pub(crate) fn receive(&self, limit: u32, _timeout_ms: u32) -> Result<Vec<u8>> {
        let mut incoming = self.incoming.borrow_mut();
        let count = incoming.len().min(limit as usize);
        Ok(incoming.drain(..count).collect())
    }

    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the same call as in a component"
    )]
    pub(crate) fn start_tls(&self, _settings: &tcp::Tls) -> Result<()> {
        Ok(())
    }
}

pub(crate) fn tcp_connect(
    host: &str,
    port: u16,
    _tls: Option<&tcp::Tls>,
    _timeout_ms: u32,
) -> Result<Connection> {
    Connection::open(format!("{host}:{port}"))
}

pub(crate) fn tcp_connect_unix(path: &str, _timeout_ms: u32) -> Result<Connection> {
    Connection::open(path.into())
}

pub(crate) fn dns_query(
    name: &str,
    record_type: &str,
    _server: Option<&str>,
    _timeout_ms: u32,
) -> Result<dns::Response> {
    granted("dns", |script| {
        let key = format!("{name} {record_type}");
        next(&mut script.dns, &key).unwrap_or_else(|| Err(unscripted(&format!("dns {key}"))))
    })
}

pub(crate) fn mail_send(message: &mail::Message) -> Result<()> {
    granted("mail", |script| {
        script.mails.push(message.clone());
        script.mail.pop_front().unwrap_or(Ok(()))
    })
}

pub(crate) fn commands_run(
    name: &str,
    arguments: &[String],
    stdin: &[u8],
) -> Result<commands::Output> {
    granted("commands", |script| {
        if script.dry_run {
            return Err(Error::denied(format!("command {name}: this is a dry run")));
        }
        script.runs.push(Run {
            name: name.into(),
            arguments: arguments.to_vec(),
            stdin: stdin.to_vec(),
        });
        next(&mut script.commands, name)
            .unwrap_or_else(|| Err(unscripted(&format!("the command {name:?}"))))
    })
}

fn control(what: Control) -> Result<u64> {
    granted("control", |script| {
        if script.dry_run {
            return Err(Error::denied("control: this is a dry run"));
        }
        script.controls.push(what);
        script.control.pop_front().unwrap_or(Ok(0))
    })
}

pub(crate) fn control_service(unit: &str, verb: control::Verb) -> Result<()> {
    control(Control::Service(unit.into(), verb)).map(drop)
}

pub(crate) fn control_signal_process(pid: u32, started_at: u64, signal: &str) -> Result<()> {
    control(Control::Signal(pid, started_at, signal.into())).map(drop)
}

pub(crate) fn control_delete_older(glob: &str, seconds: u64) -> Result<u64> {
    control(Control::Delete(glob.into(), seconds))
}

pub(crate) fn events_emit(kind: &str, at: Option<Timestamp>, message: &str, fields: Pairs) {
    script(|script| {
        script.events.push(Event {
            kind: kind.into(),
            at,
            message: message.into(),
            fields,
        });
    });
}

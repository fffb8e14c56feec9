//! The host's functions in a component: the contract's imports, turned into the SDK's types.
//! [`mock::calls`](crate::mock) is the same list, natively.

use std::time::Duration;

use crate::bindings::imports::watchfire::plugin as wit;
use crate::host::{commands, control, dns, files, http, log, mail, system, tcp};
use crate::{Error, Pairs, Result, Timestamp};

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn log_emit(level: log::Level, message: &str, fields: Pairs) {
    let level = match level {
        log::Level::Trace => wit::log::Level::Trace,
        log::Level::Debug => wit::log::Level::Debug,
        log::Level::Info => wit::log::Level::Info,
        log::Level::Warn => wit::log::Level::Warn,
        log::Level::Error => wit::log::Level::Error,
    };
    wit::log::emit(level, message, &fields);
}

pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>> {
    Ok(wit::state::get(key)?)
}

pub(crate) fn state_set(key: &str, value: &[u8]) -> Result<()> {
    Ok(wit::state::set(key, value)?)
}

pub(crate) fn state_delete(key: &str) -> Result<()> {
    Ok(wit::state::delete(key)?)
}

pub(crate) fn system_hostname() -> String {
    wit::system::hostname()
}

pub(crate) fn system_read(families: &[String]) -> Result<Vec<system::Reading>> {
    let reading = |reading: wit::system::Reading| system::Reading {
        metric: reading.metric,
        labels: reading.labels,
        value: reading.value,
    };
    Ok(wit::system::read(families)?
        .into_iter()
        .map(reading)
        .collect())
}

pub(crate) fn system_processes(name: &str) -> Result<Vec<system::Process>> {
    let process = |process: wit::system::Process| system::Process {
        pid: process.pid,
        parent: process.parent,
        name: process.name,
        command: process.command,
        unit: process.unit,
        run_state: process.run_state,
        threads: process.threads,
        cpu_ratio: process.cpu_ratio,
        resident_bytes: process.resident_bytes,
        open_files: process.open_files,
        started_at: process.started_at,
    };
    Ok(wit::system::processes(name)?
        .into_iter()
        .map(process)
        .collect())
}

pub(crate) fn system_services(pattern: &str) -> Result<Vec<system::Service>> {
    let service = |service: wit::system::Service| system::Service {
        unit: service.unit,
        active_state: service.active_state,
        sub_state: service.sub_state,
        restarts: service.restarts,
        since: service.since,
    };
    Ok(wit::system::services(pattern)?
        .into_iter()
        .map(service)
        .collect())
}

pub(crate) fn files_read(path: &str, offset: u64, limit: u32) -> Result<files::Chunk> {
    let chunk = wit::files::read(path, offset, limit)?;
    Ok(files::Chunk {
        bytes: chunk.bytes,
        file: metadata(chunk.file),
    })
}

pub(crate) fn files_stat(path: &str) -> Result<Option<files::Metadata>> {
    Ok(wit::files::stat(path)?.map(metadata))
}

pub(crate) fn files_listing(glob: &str) -> Result<Vec<String>> {
    Ok(wit::files::listing(glob)?)
}

fn metadata(file: wit::files::Metadata) -> files::Metadata {
    files::Metadata {
        size: file.size,
        modified_at: file.modified_at,
        device: file.device,
        inode: file.inode,
    }
}

pub(crate) fn secrets_reveal(name: &str) -> Result<String> {
    Ok(wit::secrets::reveal(name)?)
}

pub(crate) fn http_send(request: &http::Request) -> Result<http::Response> {
    let response = wit::http::send(&wit::http::Request {
        method: request.method.clone(),
        url: request.url.clone(),
        headers: request.headers.clone(),
        body: request.body.clone(),
        fill_body: request.fill_body,
        timeout_ms: crate::host::millis(request.timeout),
        extra: request.extra.clone(),
    })?;
    Ok(http::Response {
        status: response.status,
        headers: response.headers,
        body: response.body,
        elapsed: Duration::from_micros(response.elapsed_us),
        certificate_seconds_left: response.certificate_seconds_left,
        extra: response.extra,
    })
}

/// The host's handle; dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Connection(wit::tcp::Connection);

impl Connection {
    pub(crate) fn elapsed_us(&self) -> u64 {
        self.0.elapsed_us()
    }

    pub(crate) fn certificate_seconds_left(&self) -> Option<i64> {
        self.0.certificate_seconds_left()
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.send(bytes)?)
    }

    pub(crate) fn send_filled(&self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.send_filled(bytes)?)
    }

    pub(crate) fn receive(&self, limit: u32, timeout_ms: u32) -> Result<Vec<u8>> {
        Ok(self.0.receive(limit, timeout_ms)?)
    }

    pub(crate) fn start_tls(&self, settings: &tcp::Tls) -> Result<()> {
        Ok(self.0.start_tls(&tls(settings))?)
    }
}

fn tls(settings: &tcp::Tls) -> wit::tcp::Tls {
    wit::tcp::Tls {
        server_name: settings.server_name.clone(),
        verify: settings.verify,
    }
}

pub(crate) fn tcp_connect(
    host: &str,
    port: u16,
    settings: Option<&tcp::Tls>,
    timeout_ms: u32,
) -> Result<Connection> {
    let settings = settings.map(tls);
    Ok(Connection(wit::tcp::connect(
        host,
        port,
        settings.as_ref(),
        timeout_ms,
    )?))
}

pub(crate) fn tcp_connect_unix(path: &str, timeout_ms: u32) -> Result<Connection> {
    Ok(Connection(wit::tcp::connect_unix(path, timeout_ms)?))
}

pub(crate) fn dns_query(
    name: &str,
    record_type: &str,
    server: Option<&str>,
    timeout_ms: u32,
) -> Result<dns::Response> {
    let response = wit::dns::query(name, record_type, server, timeout_ms)?;
    let answer = |answer: wit::dns::Answer| dns::Answer {
        record_type: answer.record_type,
        data: answer.data,
        ttl: answer.ttl,
    };
    Ok(dns::Response {
        code: response.code,
        answers: response.answers.into_iter().map(answer).collect(),
        elapsed: Duration::from_micros(response.elapsed_us),
        server: response.server,
    })
}

pub(crate) fn mail_send(message: &mail::Message) -> Result<()> {
    Ok(wit::mail::send(&wit::mail::Message {
        to: message.to.clone(),
        reply_to: message.reply_to.clone(),
        subject: message.subject.clone(),
        text: message.text.clone(),
        html: message.html.clone(),
        message_id: message.message_id.clone(),
        in_reply_to: message.in_reply_to.clone(),
    })?)
}

pub(crate) fn commands_run(
    name: &str,
    arguments: &[String],
    stdin: &[u8],
) -> Result<commands::Output> {
    let output = wit::commands::run(name, arguments, stdin)?;
    Ok(commands::Output {
        status: output.status,
        stdout: output.stdout,
        stderr: output.stderr,
        timed_out: output.timed_out,
        truncated: output.truncated,
        elapsed: Duration::from_micros(output.elapsed_us),
    })
}

pub(crate) fn control_service(unit: &str, verb: control::Verb) -> Result<()> {
    let verb = match verb {
        control::Verb::Start => wit::control::Verb::Start,
        control::Verb::Stop => wit::control::Verb::Stop,
        control::Verb::Restart => wit::control::Verb::Restart,
        control::Verb::Reload => wit::control::Verb::Reload,
    };
    Ok(wit::control::service(unit, verb)?)
}

pub(crate) fn control_signal_process(pid: u32, started_at: u64, signal: &str) -> Result<()> {
    Ok(wit::control::signal_process(pid, started_at, signal)?)
}

pub(crate) fn control_delete_older(glob: &str, seconds: u64) -> Result<u64> {
    wit::control::delete_older(glob, seconds).map_err(Error::from)
}

pub(crate) fn events_emit(kind: &str, at: Option<Timestamp>, message: &str, fields: Pairs) {
    wit::events::emit(kind, at.map(Timestamp::millis), message, &fields);
}

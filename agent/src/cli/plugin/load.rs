//! From a file, or the name of a stock plugin, to a component in a sandbox of its own.

use super::project::component_of;
use crate::error::Failure;
use crate::plugin::compile::Compiler;
use crate::plugin::stock;
use crate::sandbox::host::log::Level;
use crate::sandbox::types::Description;
use crate::sandbox::{
    COMPONENT_BYTES_MAX, Component, EventSink, HostConfig, HostServices, LogLine, LogSink,
    MemoryState, PluginEvent, Sandbox, Settings,
};
use crate::telemetry::printable;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A component, ready to be called.
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) component: Component,
    pub(super) description: Description,
    pub(super) bytes: usize,
    pub(super) sha256: String,
    pub(super) compile_time: Duration,
}

/// A component that was compiled, for sandboxes of one setting.
pub(super) struct Compiled {
    pub(super) name: String,
    pub(super) component: Vec<u8>,
    pub(super) sha256: [u8; 32],
    artefact: Vec<u8>,
    compile_time: Duration,
}

impl Compiled {
    /// Loads it into a sandbox.
    pub(super) fn load(&self, sandbox: &Sandbox, stub_wasi: bool) -> Result<Component, Failure> {
        Ok(sandbox.load(&self.name, self.sha256, &self.artefact, stub_wasi)?)
    }
}

/// Compiles in the capped child, loads, asks what it is.
pub(super) async fn load(
    file: &Path,
    stub_wasi: bool,
    config: HostConfig,
) -> Result<Ready, Failure> {
    match load_strange(file, stub_wasi, config).await? {
        (ready, None) => Ok(ready),
        (_, Some(error)) => Err(Failure::failed(error)),
    }
}

/// As [`load`], of a component that may not be able to say what it is: then with an empty description and why.
pub(super) async fn load_strange(
    file: &Path,
    stub_wasi: bool,
    config: HostConfig,
) -> Result<(Ready, Option<String>), Failure> {
    let sandbox = sandbox(HostServices {
        config,
        ..services()
    })?;
    let compiled = compile(file, &sandbox).await?;
    let component = compiled.load(&sandbox, stub_wasi)?;
    let (description, silent) = match component.describe().await {
        Ok(description) => (description, None),
        Err(error) => {
            let why = printable(&error.to_string());
            (
                Description::default(),
                Some(format!("its describe failed: {why}")),
            )
        }
    };
    let ready = Ready {
        name: compiled.name,
        component,
        description,
        bytes: compiled.component.len(),
        sha256: crate::plugin::hex(&compiled.sha256),
        compile_time: compiled.compile_time,
    };
    Ok((ready, silent))
}

/// A host that keeps state in memory and says on stderr what plugins log and tell.
pub(super) fn services() -> HostServices {
    HostServices {
        state: Arc::new(MemoryState::default()),
        events: Arc::new(ToStderr),
        log: Arc::new(ToStderr),
        config: HostConfig::default(),
        system: crate::sandbox::host::system::SystemSettings::default(),
    }
}

/// A sandbox around these services.
pub(super) fn sandbox(services: HostServices) -> Result<Sandbox, Failure> {
    crate::sandbox::egress::tls::install_crypto_provider();
    Ok(Sandbox::new(Settings::default(), services)?)
}

/// Reads a component (see [`read`]) and compiles it, for sandboxes like this one.
pub(super) async fn compile(file: &Path, sandbox: &Sandbox) -> Result<Compiled, Failure> {
    let (name, component) = read(file)?;
    let options = sandbox.settings().compile_options();
    let started = Instant::now();
    let artefact = Compiler::of_this_process(options)
        .compile(&component)
        .await?;
    Ok(Compiled {
        name,
        sha256: Sha256::digest(&component).into(),
        component,
        artefact,
        compile_time: started.elapsed(),
    })
}

/// A file, the component built in a plugin's folder, or where there is neither of that name, a stock plugin.
fn read(file: &Path) -> Result<(String, Vec<u8>), Failure> {
    let file = &*component_of(file)?;
    if !file.exists()
        && let Some(stock) = file.to_str().and_then(stock::find)
    {
        return Ok((stock.name.to_owned(), stock.bytes()));
    }
    let failed = |error: std::io::Error| {
        let names: Vec<&str> = stock::all().iter().map(|stock| stock.name).collect();
        let mut text = format!("cannot read {}: {error}", file.display());
        if error.kind() == std::io::ErrorKind::NotFound {
            text.push_str(&format!("; stock plugins are {}", names.join(", ")));
        }
        Failure::failed(text)
    };
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| {
            file.take(COMPONENT_BYTES_MAX as u64 + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(failed)?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    Ok((stem.into_owned(), bytes))
}

/// Shows what a plugin logs and tells; results alone go to stdout.
struct ToStderr;

impl ToStderr {
    fn line(&self, what: &str, message: &str, fields: &[(String, String)]) {
        let mut line = format!("{what}: {}", printable(message));
        for (key, value) in fields {
            line.push_str(&format!(" {}={}", printable(key), printable(value)));
        }
        line.push('\n');
        // Nobody is left to tell where stderr is closed.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

impl LogSink for ToStderr {
    fn line(&self, line: LogLine<'_>) {
        let level = match line.level {
            Level::Trace => "log trace",
            Level::Debug => "log debug",
            Level::Info => "log info",
            Level::Warn => "log warn",
            Level::Error => "log error",
        };
        ToStderr::line(self, level, line.message, line.fields);
    }
}

impl EventSink for ToStderr {
    fn emit(&self, event: PluginEvent) {
        let kind = format!("event {}", printable(&event.kind));
        ToStderr::line(self, &kind, &event.message, &event.fields);
    }
}

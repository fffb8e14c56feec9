//! `watchfire plugin build`: cargo with the flags that make a small component, and where it is.

use crate::cli::Global;
use crate::cli::screen::{Screen, bytes};
use crate::error::Failure;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target of all plugins.
const TARGET: &str = "wasm32-wasip2";

/// A release made small, as the stock plugins are; set here so that a crate needs no profile of its own.
const PROFILE: [(&str, &str); 5] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "true"),
];

/// Settings of this machine's native builds: they would reach the guest's build or break it.
const NATIVE_ONLY: [&str; 4] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_RUSTFLAGS",
];

/// Options of `plugin build`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Folder of the crate
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Quick and with debug information, not small
    #[arg(long)]
    debug: bool,
}

pub(super) fn build(args: &Args, global: &Global) -> Result<(), Failure> {
    let manifest = args.path.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(Failure::failed(format!(
            "{} is no crate: it has no Cargo.toml",
            args.path.display()
        )));
    }
    let component = built(&run_cargo(&manifest, args.debug)?)?;
    let size = std::fs::metadata(&component)?.len();
    let screen = Screen::of_stdout(global.json);
    if global.json {
        return screen.print_json(&json!({ "component": component, "size_bytes": size }));
    }
    let name = component.display();
    screen.print(&format!(
        "{name} ({})\n\nlook at it:  watchfire plugin inspect {name}\ntry it:      watchfire plugin run {name}\nuse it:      copy it into the agent's plugin folder under the name that tables shall use\n",
        bytes(size)
    ))
}

/// Runs cargo, whose words for people go to stderr; gives those for programs.
#[expect(
    clippy::disallowed_methods,
    reason = "a build runs the tools of the toolchain, in the foreground of whoever asked for it"
)]
fn run_cargo(manifest: &Path, debug: bool) -> Result<Vec<u8>, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command
        .args(["build", "--lib", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .arg("--manifest-path")
        .arg(manifest)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if !debug {
        command.arg("--release").envs(PROFILE);
    }
    for name in NATIVE_ONLY {
        command.env_remove(name);
    }
    let output = command.output().map_err(|error| {
        Failure::failed(format!(
            "cannot start cargo: {error}; install Rust from https://rustup.rs"
        ))
    })?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(Failure::failed(format!(
            "the crate does not build; if cargo misses `core` or `std`: rustup target add {TARGET}"
        )))
    }
}

/// The component among cargo's messages.
fn built(messages: &[u8]) -> Result<PathBuf, Failure> {
    let mut components: Vec<PathBuf> = messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .flat_map(|message| {
            let files = message["filenames"].as_array().cloned().unwrap_or_default();
            files
                .into_iter()
                .filter_map(|file| Some(PathBuf::from(file.as_str()?)))
        })
        .filter(|file| file.extension().is_some_and(|e| e == "wasm"))
        .collect();
    // Dependencies come before the crate that was asked for.
    components.pop().ok_or_else(|| {
        Failure::failed("cargo made no component: write `crate-type = [\"cdylib\", \"rlib\"]` under [lib] in Cargo.toml")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_among_the_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","filenames":["/t/libserde.rlib"]}"#,
            "\n",
            r#"{"reason":"compiler-artifact","filenames":["/t/libx.rlib","/t/x.wasm"]}"#,
            "\nno json\n",
            r#"{"reason":"build-finished","success":true}"#,
            "\n"
        );
        assert_eq!(
            built(messages.as_bytes()).unwrap(),
            PathBuf::from("/t/x.wasm")
        );
        assert!(built(b"").unwrap_err().text.contains("crate-type"));
    }
}

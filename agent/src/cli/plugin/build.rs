//! `watchfire plugin build`: a plugin's folder to a component in it, whatever it is written in.
//!
//! ```text
//!   Rust        cargo, wasm32-wasip2
//!   Python      componentize-py
//!   JavaScript  componentize-qjs
//!   C           wit-bindgen c, zig cc, wasm-tools component new
//! ```

use super::project::{Language, Project};
use crate::cli::Global;
use crate::cli::screen::{Screen, bytes};
use crate::error::Failure;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target of all plugins in Rust.
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
    /// The plugin's folder
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Quick and with debug information, not small (Rust)
    #[arg(long)]
    debug: bool,
}

pub(super) fn build(args: &Args, global: &Global) -> Result<(), Failure> {
    let project = Project::of(&args.path)?;
    let component = component(&project, args.debug)?;
    let size = std::fs::metadata(&component)?.len();
    let screen = Screen::of_stdout(global.json);
    if global.json {
        return screen.print_json(&json!({ "component": component, "size_bytes": size }));
    }
    let name = component.display();
    screen.print(&format!(
        "{name} ({})\n\ncheck it:    watchfire plugin check {name}\ntest it:     watchfire plugin test {}\ntry it:      watchfire plugin run {name}\ninstall it:  watchfire plugin install {name}\n",
        bytes(size),
        args.path.display(),
    ))
}

/// Builds the component and gives its place. What the tools say goes to stderr.
pub(super) fn component(project: &Project, debug: bool) -> Result<PathBuf, Failure> {
    match project.language {
        Language::Rust => rust(project, debug)?,
        Language::Python => python(project)?,
        Language::Javascript => javascript(project)?,
        Language::C => c(project)?,
    }
    Ok(project.component())
}

fn rust(project: &Project, debug: bool) -> Result<(), Failure> {
    let built = built(&run_cargo(&project.folder.join("Cargo.toml"), debug)?)?;
    std::fs::copy(&built, project.component())?;
    Ok(())
}

fn python(project: &Project) -> Result<(), Failure> {
    let own = project.folder.join(".venv/bin/componentize-py");
    let tool = Tool::find(
        "componentize-py",
        &own,
        "pip install componentize-py   (in the plugin's folder: python3 -m venv .venv && .venv/bin/pip install componentize-py)",
    );
    let world = world(project)?;
    // Its Python imports files and sockets whether used or not: stubbed, the component imports neither.
    tool.run(
        project,
        &[
            "-d",
            "wit",
            "-w",
            &world,
            "componentize",
            "--stub-wasi",
            "app",
            "-o",
            &output(project),
        ],
    )
}

fn javascript(project: &Project) -> Result<(), Failure> {
    let own = project.folder.join("node_modules/.bin/componentize-qjs");
    let tool = Tool::find(
        "componentize-qjs",
        &own,
        "npm install componentize-qjs   (in the plugin's folder)",
    );
    let world = world(project)?;
    // Its run time imports files, used or not: stubbed, the component imports nothing of WASI.
    // Without --sync it emits the asynchronous ABI, which this host does not have.
    tool.run(
        project,
        &[
            "--wit",
            "wit",
            "-n",
            &world,
            "--sync",
            "-m",
            "--stub-wasi",
            "-j",
            "plugin.js",
            "-o",
            &output(project),
        ],
    )
}

fn c(project: &Project) -> Result<(), Failure> {
    let none = Path::new("");
    let bindgen = Tool::find(
        "wit-bindgen",
        none,
        "cargo install --locked wit-bindgen-cli",
    );
    let tools = Tool::find("wasm-tools", none, "cargo install --locked wasm-tools");
    let world = world(project)?;
    let stem = world.replace('-', "_");
    bindgen.run(
        project,
        &["c", "wit", "--world", &world, "--out-dir", "build"],
    )?;
    let (bindings, types) = (
        format!("build/{stem}.c"),
        format!("build/{stem}_component_type.o"),
    );
    let mut zig = Tool::find(
        "zig",
        none,
        "pip install ziglang   (in the plugin's folder: python3 -m venv .venv && .venv/bin/pip install ziglang)",
    );
    for python in [
        project.folder.join(".venv/bin/python3"),
        PathBuf::from("python3"),
    ] {
        // PyPI's zig has no command of its own.
        if !zig.is_there() && quietly(&python, &["-m", "ziglang", "version"]) {
            zig.program = absolute(&python);
            zig.before = &["-m", "ziglang"];
        }
    }
    zig.run(
        project,
        &[
            // A reactor: functions to call, no main.
            "cc",
            "--target=wasm32-wasi",
            "-mexec-model=reactor",
            "-Os",
            "-s",
            "-Wall",
            "-I",
            "build",
            "plugin.c",
            &bindings,
            &types,
            "-o",
            "build/core.wasm",
        ],
    )?;
    tools.run(
        project,
        &[
            "component",
            "new",
            "build/core.wasm",
            "-o",
            &output(project),
        ],
    )
}

/// The world of its kind in `wit/worlds.wit`.
fn world(project: &Project) -> Result<String, Failure> {
    let wit = project.folder.join("wit/worlds.wit");
    let kind = project.kind.filter(|_| wit.is_file()).ok_or_else(|| {
        Failure::failed(format!(
            "there is no {}: copy the folder wit of another plugin that `watchfire plugin new` wrote",
            wit.display()
        ))
    })?;
    Ok(format!("{}-plugin", kind.name()))
}

/// The component's name, as tools that run in the folder are told it.
fn output(project: &Project) -> String {
    format!("{}.wasm", project.name)
}

/// A path that means the same wherever a tool is started.
fn absolute(path: &Path) -> OsString {
    if path.components().count() == 1 {
        return path.into(); // looked for in PATH
    }
    std::path::absolute(path).map_or_else(|_| path.into(), OsString::from)
}

/// A program of somebody else's, and how to get it.
struct Tool {
    name: &'static str,
    program: OsString,
    /// Arguments that make the program the tool.
    before: &'static [&'static str],
    install: &'static str,
}

impl Tool {
    /// The one in the plugin's own folder goes before that of the machine.
    fn find(name: &'static str, own: &Path, install: &'static str) -> Self {
        let program = if own.is_file() {
            absolute(own)
        } else {
            name.into()
        };
        Tool {
            name,
            program,
            before: &[],
            install,
        }
    }

    fn is_there(&self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        !self.before.is_empty()
            || Path::new(&self.program).is_absolute()
            || std::env::split_paths(&path).any(|folder| folder.join(&self.program).is_file())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a build runs the tools of its language, in the foreground of whoever asked for it"
    )]
    fn run(&self, project: &Project, arguments: &[&str]) -> Result<(), Failure> {
        if !self.is_there() {
            return Err(Failure::failed(format!(
                "{} is not installed; {} plugins are built with it:\n  {}",
                self.name,
                project.language.name(),
                self.install
            )));
        }
        let output = Command::new(&self.program)
            .args(self.before)
            .args(arguments)
            .current_dir(&project.folder)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| Failure::failed(format!("cannot start {}: {error}", self.name)))?;
        if output.status.success() {
            return Ok(());
        }
        // Its words for people, wherever it put them.
        eprint!("{}", String::from_utf8_lossy(&output.stdout));
        Err(Failure::failed(format!(
            "{} failed: {} {}",
            self.name,
            self.name,
            arguments.join(" ")
        )))
    }
}

/// Whether a program runs and is content.
#[expect(
    clippy::disallowed_methods,
    reason = "asks whether a tool of the toolchain is there"
)]
fn quietly(program: impl AsRef<OsStr>, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
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
    fn a_missing_tool_says_how_to_get_it() {
        let project = Project {
            folder: ".".into(),
            name: "probe-x".to_owned(),
            language: Language::C,
            kind: None,
        };
        let tool = Tool::find("no-such-tool-at-all", Path::new(""), "get no-such-tool");
        let text = tool.run(&project, &["--version"]).unwrap_err().text;
        assert!(
            text.contains("not installed") && text.ends_with("get no-such-tool"),
            "{text}"
        );
    }

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

//! Builds every crate under `plugins/` for wasm32-wasip2 and embeds the components, so that
//! `cargo build` is the whole set-up.
//!
//! The nested cargo has a target folder of its own, `plugins` beside the outer profiles: a folder
//! shared with the outer cargo would deadlock on its lock, a folder under `OUT_DIR` would start cold
//! with every change of a hash. Flags and wrappers of the outer build (clippy, coverage, sanitizers)
//! are meant for the agent and are kept away from the guests.

#[path = "build/author.rs"]
mod author;
#[path = "build/target.rs"]
mod target;

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

/// The usual compression of `xz`: higher ones gain nothing here.
const PRESET: u32 = 6;

/// How far back the compression looks, in bytes: over all components, for what they share with each other
/// (the standard library, the SDK, JSON) is three quarters of them.
const WINDOW_BYTES: u32 = 8 << 20;

/// Variables of the outer cargo that the nested one may see: where things are downloaded from and
/// kept, how it talks, and the jobserver, so that both together use no more cores than asked for.
const KEPT: [&str; 7] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            // Printed by cargo as one line, unlike a panic or an exit code, which bring the whole log along.
            println!("cargo::error={line}");
            ExitCode::SUCCESS
        }
    }
}

fn build() -> Result<(), String> {
    let agent = PathBuf::from(required("CARGO_MANIFEST_DIR")?);
    let root = agent
        .parent()
        .ok_or("the agent's folder has no parent folder")?
        .to_owned();
    let out = PathBuf::from(required("OUT_DIR")?);

    // A path that does not exist would make cargo run this every time.
    for path in [
        "agent/build.rs",
        "agent/build",
        "plugins",
        "plugin-sdk/src",
        "plugin-sdk/templates",
        "plugin-sdk/Cargo.toml",
        "wit",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        let path = root.join(path);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }

    // What the binary brings, one after the other, in one piece.
    let mut archive = Vec::new();
    let names = plugins(&root.join("plugins"))?;
    let mut list = String::from("pub(super) static STOCK: &[Stock] = &[\n");
    if !names.is_empty() {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let search_path = env::var_os("PATH").unwrap_or_default();
        target::ensure(&rustc, &search_path)?;
        let built = compile(&root, &target_folder(&out)?, &names)?;
        for name in &names {
            let from = built.join(format!("{}.wasm", name.replace('-', "_")));
            let bytes = fs::read(&from).map_err(|error| {
                format!(
                    "plugins/{name} made no component {}: {error}; its [lib] needs crate-type = [\"cdylib\", \"rlib\"] and no name",
                    from.display()
                )
            })?;
            let digest: [u8; 32] = Sha256::digest(&bytes).into();
            writeln!(
                list,
                "    Stock {{ name: {name:?}, packed: Packed {{ at: {}, size: {} }}, sha256: {digest:?} }},",
                archive.len(),
                bytes.len()
            )
            .map_err(|error| error.to_string())?;
            archive.extend_from_slice(&bytes);
        }
    }
    list.push_str("];\n");
    write(&out.join("stock.rs"), list.as_bytes())?;
    let author = author::pack(&root)?;
    let place = format!(
        "/// What `plugin new` writes.\npub(crate) static AUTHOR: Packed = Packed {{ at: {}, size: {} }};\n",
        archive.len(),
        author.len()
    );
    write(&out.join("author.rs"), place.as_bytes())?;
    archive.extend_from_slice(&author);
    let packed = pack(&archive).map_err(|error| format!("cannot pack the plugins: {error}"))?;
    write(&out.join("archive.lzma"), &packed)
}

fn pack(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut options = lzma_rust2::LzmaOptions::with_preset(PRESET);
    options.dict_size = WINDOW_BYTES;
    let size = Some(bytes.len() as u64);
    let mut writer = lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, size)?;
    writer.write_all(bytes)?;
    writer.finish()
}

/// Folders under `plugins/` that hold a crate, by name. A folder is named like its package.
fn plugins(folder: &Path) -> Result<Vec<String>, String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
        if entry.path().join("Cargo.toml").is_file() {
            let name = entry.file_name().into_string();
            names.push(name.map_err(|name| format!("{name:?} is no name of a crate"))?);
        }
    }
    names.sort();
    Ok(names)
}

/// `target/plugins`, found from `target[/TRIPLE]/PROFILE/build/watchfire-HASH/out`.
fn target_folder(out: &Path) -> Result<PathBuf, String> {
    let mut folder = out
        .ancestors()
        .nth(4)
        .ok_or_else(|| format!("OUT_DIR {} is not where cargo puts it", out.display()))?;
    if folder.file_name() == env::var_os("TARGET").as_deref() {
        folder = folder.parent().unwrap_or(folder);
    }
    Ok(folder.join("plugins"))
}

/// Runs the nested cargo; the folder with the components.
#[expect(
    clippy::disallowed_methods,
    reason = "a build has to run the tools of the toolchain"
)]
fn compile(root: &Path, target_folder: &Path, names: &[String]) -> Result<PathBuf, String> {
    let mut cargo = Command::new(required("CARGO")?);
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let dropped = (name.starts_with("CARGO")
            && !KEPT.iter().any(|kept| name.starts_with(kept)))
            || name.starts_with("RUSTC_")
            || matches!(name, "RUSTFLAGS" | "RUSTDOCFLAGS" | "RUSTDOC");
        if dropped {
            cargo.env_remove(name);
        }
    }
    cargo
        // Empty wins over what a configuration file says; absent would not.
        .env("CARGO_ENCODED_RUSTFLAGS", "")
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "")
        .current_dir(root)
        .args(["build", "--profile", "plugin", "--target", target::TARGET])
        .arg("--target-dir")
        .arg(target_folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if root.join("Cargo.lock").exists() {
        cargo.arg("--locked");
    }
    for name in names {
        cargo.args(["--package", name]);
    }
    let status = cargo
        .status()
        .map_err(|error| format!("cannot start cargo for the stock plugins: {error}"))?;
    if !status.success() {
        return Err(format!(
            "the stock plugins do not build; see why with: cargo build --profile plugin --target {} --package {}",
            target::TARGET,
            names.join(" --package ")
        ));
    }
    Ok(target_folder.join(target::TARGET).join("plugin"))
}

fn required(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo did not set {name}"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

//! Sees to it that the standard library for the plugins' target is installed. Included by `build.rs` and by a test.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The target of all guests.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// The one line that a build without the target ends with.
pub(crate) const MISSING: &str = "run `rustup target add wasm32-wasip2`, then build again";

/// Makes sure that `rustc` can build for [`TARGET`], asking `rustup` for it once where it cannot.
///
/// `search_path` is the `PATH` in which both are looked up. The error is [`MISSING`], whatever the
/// cause: what to type is the same.
pub(crate) fn ensure(rustc: &OsStr, search_path: &OsStr) -> Result<(), &'static str> {
    if installed(rustc, search_path) {
        return Ok(());
    }
    // Its own output stays silent: in the good case nobody has to know, in the bad one a single line says it all.
    let _ = command(OsStr::new("rustup"), search_path)
        .args(["target", "add", TARGET])
        .stdin(Stdio::null())
        .output();
    if installed(rustc, search_path) {
        Ok(())
    } else {
        Err(MISSING)
    }
}

/// Whether the folder of the target's libraries holds a `std`. `rustc` names the folder of every
/// target that it knows, installed or not.
fn installed(rustc: &OsStr, search_path: &OsStr) -> bool {
    let Ok(answer) = command(rustc, search_path)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
    else {
        return false;
    };
    let folder = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a build has to run the tools of the toolchain"
)]
fn command(program: &OsStr, search_path: &OsStr) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path);
    command
}

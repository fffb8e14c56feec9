//! Components of `agent/tests/guests`, built once a test run, beside the stock plugins and with their
//! profile, so that they share what is compiled already.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Cargo would only wait for itself.
static BUILDING: Mutex<()> = Mutex::new(());

/// The component of a guest's folder.
///
/// # Panics
/// If it does not build.
pub fn component(name: &str) -> PathBuf {
    let _one_at_a_time = BUILDING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = target_folder();
    let mut cargo = cargo();
    let output = cargo
        .current_dir(top)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            "plugin",
            "--target",
            "wasm32-wasip2",
        ])
        .arg("--package")
        .arg(format!("guest-{name}"))
        .arg("--target-dir")
        .arg(&target)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let file = format!("guest_{}.wasm", name.replace('-', "_"));
    target.join("wasm32-wasip2/plugin").join(file)
}

/// A cargo of its own: flags and wrappers of the outer one are not for guests.
pub fn cargo() -> Command {
    #[expect(clippy::disallowed_methods, reason = "the test builds its guests")]
    let mut cargo = Command::new(env!("CARGO"));
    for (key, _) in std::env::vars_os() {
        let key = key.to_string_lossy().into_owned();
        let of_cargo = key.starts_with("CARGO_") && key != "CARGO_HOME";
        if of_cargo || key.starts_with("RUSTC") || key == "RUSTFLAGS" {
            cargo.env_remove(key);
        }
    }
    cargo
}

/// `target/plugins` of the build that made this test.
pub fn target_folder() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_watchfire"));
    // target/<profile>/watchfire
    binary.ancestors().nth(2).unwrap().join("plugins")
}

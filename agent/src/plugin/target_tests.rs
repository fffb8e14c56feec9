//! Tests of the build script's way to the plugins' target, with a made-up toolchain.

#[path = "../../build/target.rs"]
mod target;

use std::path::{Path, PathBuf};

/// A folder with a `rustc` that names a library folder and, maybe, a `rustup` beside it.
struct Toolchain {
    folder: tempfile::TempDir,
}

impl Toolchain {
    fn new() -> Self {
        let toolchain = Toolchain {
            folder: tempfile::tempdir().expect("a folder"),
        };
        let lib = toolchain.lib();
        toolchain.tool("rustc", &format!("echo {}", lib.display()));
        toolchain
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn lib(&self) -> PathBuf {
        self.path().join("wasm32-wasip2/lib")
    }

    fn tool(&self, name: &str, script: &str) {
        // `mkdir` and `touch` are not in the made-up search path.
        let script = format!("PATH=/usr/bin:/bin\n{script}");
        super::test_support::script(&self.path().join(name), &script);
    }

    fn ensure(&self) -> Result<(), &'static str> {
        target::ensure("rustc".as_ref(), self.path().as_os_str())
    }
}

#[test]
fn an_installed_target_is_left_alone() {
    let toolchain = Toolchain::new();
    std::fs::create_dir_all(toolchain.lib()).expect("made");
    std::fs::write(toolchain.lib().join("libstd-0123.rlib"), b"").expect("written");
    let asked = toolchain.path().join("asked");
    toolchain.tool("rustup", &format!("touch {}", asked.display()));
    assert_eq!(toolchain.ensure(), Ok(()));
    assert!(!asked.exists());
}

#[test]
fn a_missing_target_is_added() {
    let toolchain = Toolchain::new();
    let lib = toolchain.lib();
    toolchain.tool(
        "rustup",
        &format!(
            "[ \"$*\" = 'target add wasm32-wasip2' ] && mkdir -p {0} && touch {0}/libstd-0123.rlib",
            lib.display()
        ),
    );
    assert_eq!(toolchain.ensure(), Ok(()));
}

#[test]
fn what_cannot_be_added_ends_with_the_line_to_type() {
    let line = "run `rustup target add wasm32-wasip2`, then build again";
    assert_eq!(target::MISSING, line);
    let toolchain = Toolchain::new();
    assert_eq!(toolchain.ensure(), Err(line), "no rustup");
    toolchain.tool("rustup", "exit 1");
    assert_eq!(toolchain.ensure(), Err(line), "rustup fails");
    toolchain.tool("rustup", "exit 0");
    assert_eq!(toolchain.ensure(), Err(line), "rustup lies");
    std::fs::remove_file(toolchain.path().join("rustc")).expect("removed");
    assert_eq!(toolchain.ensure(), Err(line), "no rustc");
}

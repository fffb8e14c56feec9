//! What several tests of this folder need.

use std::path::Path;
use std::process::Command;

/// Makes an executable shell script.
///
/// Written by a child: while this process holds it open for writing, a fork of another test inherits
/// the descriptor, and running the script fails with "text file busy".
#[expect(clippy::disallowed_methods, reason = "see above")]
pub(super) fn script(path: &Path, script: &str) {
    let source = path.with_extension("source");
    std::fs::write(&source, format!("#!/bin/sh\n{script}\n")).expect("written");
    let installed = Command::new("install")
        .args(["-m", "755"])
        .args([&source, path])
        .status()
        .expect("install runs");
    assert!(installed.success());
}

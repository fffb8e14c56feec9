//! The compiling child, from outside.

use crate::containment::hand_made;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use watchfire::plugin::compile::{ADDRESS_SPACE_BYTES_MAX, CPU_SECS_MAX, CompileFailure, Compiler};

#[expect(clippy::disallowed_methods, reason = "the program under test")]
fn child() -> Child {
    Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .arg("compile")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// A line of `/proc/PID/limits`: its soft limit.
fn limit(pid: u32, name: &str) -> Option<String> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find(|line| line.starts_with(name))?;
    line[name.len()..]
        .split_whitespace()
        .next()
        .map(str::to_owned)
}

/// Field 19 of `/proc/PID/stat`.
fn niceness(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit(')').next()?;
    after_name.split_whitespace().nth(16).map(str::to_owned)
}

#[tokio::test]
async fn the_child_limits_itself_before_it_reads() {
    let mut child = child();
    let pid = child.id();
    let parent = niceness(std::process::id()).and_then(|nice| nice.parse::<i32>().ok());
    let expected = parent.map(|nice| (nice + 10).min(19).to_string());
    // Its standard input is open, so it waits there, with the limits on.
    let limited = async {
        while niceness(pid) != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), limited)
        .await
        .expect("it limits itself");
    assert_eq!(limit(pid, "Max cpu time"), Some(CPU_SECS_MAX.to_string()));
    let address_space = ADDRESS_SPACE_BYTES_MAX.to_string();
    assert_eq!(limit(pid, "Max address space"), Some(address_space));
    assert_eq!(limit(pid, "Max core file size"), Some("0".into()));
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"garbage").expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert_eq!(output.stderr, b"it is no WebAssembly component\n");
}

#[tokio::test]
async fn the_parent_hears_the_childs_own_words() {
    let compiler = Compiler::new(env!("CARGO_BIN_EXE_watchfire").as_ref(), Vec::new());
    let error = compiler.compile(b"garbage").await.expect_err("refused");
    assert!(matches!(error, CompileFailure::Refused(_)), "{error}");
    assert_eq!(error.to_string(), "it is no WebAssembly component");
}

/// A compiler whose children start under lower limits than they would give themselves: CPU seconds, MiB of address
/// space. An unoptimised compiler reaches its own limits only after minutes.
fn limited(folder: &std::path::Path, cpu_secs: u32, mebibytes: u32) -> Compiler {
    let script = format!(
        "#!/bin/sh\nulimit -t {cpu_secs}\nulimit -v {}\nexec {} \"$@\"\n",
        mebibytes << 10,
        env!("CARGO_BIN_EXE_watchfire")
    );
    let (source, program) = (folder.join("source"), folder.join("compiler"));
    std::fs::write(&source, script).expect("written");
    // Written by another process: a file that a fork of this one still holds open for writing cannot run.
    #[expect(clippy::disallowed_methods, reason = "see above")]
    let installed = Command::new("install")
        .args(["-m", "755"])
        .args([&source, &program])
        .status()
        .expect("install runs");
    assert!(installed.success());
    Compiler::new(&program, Vec::new())
}

#[tokio::test]
async fn bombs_go_off_in_the_child() {
    let folder = tempfile::tempdir().expect("a folder");
    // Multiplies by three; loads what it points at.
    let multiply = [0x20, 0, 0x41, 3, 0x6c, 0x21, 0];
    let load = [0x20, 0, 0x28, 2, 0, 0x21, 0];
    let many = hand_made::only_module(&hand_made::functions(100_000, &multiply, 40));
    let long = hand_made::only_module(&hand_made::functions(1, &load, 1_000_000));
    let deep = hand_made::only_module(&hand_made::nested(2_000_000));
    for (what, bomb, (cpu_secs, mebibytes), told) in [
        ("100,000 functions", &many, (2, 2_000), "CPU time"),
        ("one long function", &long, (60, 200), "memory"),
        ("two million blocks", &deep, (2, 2_000), ""),
    ] {
        let compiler = limited(folder.path(), cpu_secs, mebibytes);
        let since = crate::support::now();
        let refused = compiler.compile(bomb).await.expect_err(what);
        println!(
            "{what}, {} bytes: {refused} ({:?})",
            bomb.len(),
            since.elapsed()
        );
        assert!(refused.to_string().contains(told), "{what}: {refused}");
        assert!(refused.is_final(), "{what}: not tried again: {refused}");
    }
}

//! The second wall: the operating system's limits around the agent, and what it says to a service manager.

use crate::configs::{QUEUE_RULE, hook, patient_queue_probe};
use crate::support::{Agent, Answer, Folder, PATIENCE, Server, wait_for};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use watchfire::sandbox::HAS_INTERPRETER;

/// The unit's exposure by `systemd-analyze security`, at most.
const EXPOSURE_MAX: f64 = 2.0;

/// Forbids to make memory executable, then executes what follows: `prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)`. In
/// Perl, because each Debian has one and the standard library offers no prctl.
const NOTHING_EXECUTABLE: [&str; 3] = [
    "perl",
    "-e",
    "my %prctl = (x86_64 => 157, aarch64 => 167); my $of = `uname -m`; chomp $of; \
     syscall($prctl{$of}, 65, 1, 0, 0, 0) == 0 or die \"prctl: $!\"; exec @ARGV or die",
];

/// Runs a tool to its end; none, visibly, where it is not installed.
fn tool(words: &[&str]) -> Option<Output> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test asks a tool of the system"
    )]
    let mut command = Command::new(words[0]);
    match command.args(&words[1..]).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: {} does not run: {error}", words[0]);
            None
        }
    }
}

/// Whether [`NOTHING_EXECUTABLE`] works here.
fn memory_can_be_walled() -> bool {
    let words: Vec<&str> = NOTHING_EXECUTABLE.into_iter().chain(["true"]).collect();
    let Some(output) = tool(&words) else {
        return false;
    };
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        println!("skipped: this kernel (before 6.3) has no such wall: {why}");
    }
    output.status.success()
}

/// A world in which a page is due.
struct World {
    _source: Server,
    sink: Server,
    folder: Folder,
}

impl World {
    fn new() -> Self {
        let source = Server::start(Answer::json(r#"{"queue": 250}"#));
        let sink = Server::start(Answer::json("{}"));
        // The interpreter needs longer than the common probe has.
        let probe = patient_queue_probe(&source);
        let parts = [probe, QUEUE_RULE.to_owned(), hook(&sink)];
        let folder = Folder::new(&parts.concat());
        World {
            _source: source,
            sink,
            folder,
        }
    }

    /// Collected, judged, delivered: components of three kinds ran.
    fn wait_for_the_page(&self) {
        let page = wait_for("the page", || {
            let received = self.sink.received();
            let mut rules = received.into_iter().map(|message| message.json());
            rules.find(|message| message["alerts"][0]["rule"] == "queue-long")
        });
        assert_eq!(page["reason"], "fire");
    }
}

#[test]
fn the_whole_agent_fits_under_a_limit_of_address_space() {
    // 4 GB: what decides is that a pool does not fit. 1.5 GB: less than the compiling child would allow itself.
    for kibibytes in ["4000000", "1500000"] {
        let world = World::new();
        let limit = format!("ulimit -v {kibibytes} && exec \"$0\" \"$@\"");
        let agent = Agent::spawn_under(&world.folder, &["sh", "-c", &limit], &[]);
        agent.wait_ready();
        world.wait_for_the_page();
        let log = agent.log();
        assert!(log.contains("address space is limited"), "{log}");
        assert_eq!(agent.terminate(), Some(0), "{kibibytes}");
    }
}

#[test]
fn where_no_memory_becomes_executable_it_interprets_or_says_why_not() {
    if !memory_can_be_walled() {
        return;
    }
    let world = World::new();
    let agent = Agent::spawn_under(&world.folder, &NOTHING_EXECUTABLE, &[]);
    if HAS_INTERPRETER {
        agent.wait_ready();
        world.wait_for_the_page();
        let log = agent.log();
        assert!(log.contains("plugins are interpreted"), "{log}");
        assert_eq!(agent.terminate(), Some(0));
    } else {
        let log = world.folder.path("log");
        assert_eq!(agent.ended(), Some(1));
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains("MemoryDenyWriteExecute"), "{log}");
        assert!(log.contains("--features pulley"), "{log}");
    }
}

/// The tests of the sandbox itself, each limit and each host call, in the interpreter: with the feature `pulley`.
#[test]
fn the_sandbox_holds_where_no_memory_becomes_executable() {
    if !HAS_INTERPRETER {
        println!("skipped: this build has no interpreter (--features pulley)");
        return;
    }
    if !memory_can_be_walled() {
        return;
    }
    let suite = std::env::current_exe().unwrap();
    // Two at a time, as many as there are threads for guests: each computes some eight times longer.
    // The reloader's compiling child makes native code, so its tests are for elsewhere.
    let words = [
        suite.to_str().unwrap(),
        "containment::",
        "--skip=containment::loads",
        "--test-threads=2",
    ];
    let words: Vec<&str> = NOTHING_EXECUTABLE.into_iter().chain(words).collect();
    let Some(output) = tool(&words) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = text.lines().filter(|line| line.ends_with("... ok")).count();
    println!("{passed} tests of the sandbox passed in the interpreter");
    assert!(output.status.success() && passed > 20, "{text}");
}

#[test]
fn a_crash_leaves_no_core_file_wherever_it_was_started() {
    let world = World::new();
    // As far as this machine lets it: a limit that is zero already would be no test.
    let most = "ulimit -S -c \"$(ulimit -H -c)\" && ulimit -c >&2 && exec \"$0\" \"$@\"";
    let agent = Agent::spawn_under(&world.folder, &["sh", "-c", most], &[]);
    agent.wait_ready();
    if agent.log().starts_with("0\n") {
        println!("not much of a test: core files are forbidden here anyway");
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", agent.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.unwrap().split_whitespace().skip(4).collect();
    assert_eq!(core[..2], ["0", "0"], "soft and hard: {limits}");
    assert_eq!(agent.terminate(), Some(0));
}

fn systemd(name: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    top.join("config/systemd").join(name)
}

/// The exposure that `systemd-analyze security` finds in a unit.
fn exposure(unit: &Path) -> Option<f64> {
    let output = tool(&[
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        unit.to_str().unwrap(),
    ])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let verdict = text.lines().find(|line| line.contains("exposure level"));
    let words = verdict.unwrap_or_else(|| {
        panic!("{text}{}", String::from_utf8_lossy(&output.stderr));
    });
    words.split_whitespace().find_map(|word| word.parse().ok())
}

#[test]
fn the_unit_exposes_little_and_keeps_what_the_agent_needs() {
    let unit = systemd("watchfire.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    // Settings that break the agent, however well they score.
    for broken in ["MemoryDenyWriteExecute", "LimitAS", "PrivateNetwork"] {
        let set = text.lines().any(|line| line.starts_with(broken));
        assert!(!set, "{broken} is set");
    }
    for needed in [
        "ProtectProc=default",
        "ProcSubset=all",
        "Type=notify",
        "OOMPolicy=continue",
    ] {
        assert!(
            text.lines().any(|line| line == needed),
            "{needed} is missing"
        );
    }
    let Some(open) = exposure(&unit) else { return };
    // With the drop-in beside it, as systemd would read both.
    let folder = tempfile::tempdir().unwrap();
    let walled = folder.path().join("watchfire.service");
    let drop_in = std::fs::read_to_string(systemd("interpreter.conf")).unwrap();
    std::fs::write(&walled, format!("{text}\n{drop_in}")).unwrap();
    let closed = exposure(&walled).unwrap();
    println!(
        "exposure of the unit {open}, with the interpreter's drop-in {closed}; at most {EXPOSURE_MAX}"
    );
    assert!(open <= EXPOSURE_MAX && closed <= open);
    let verified = tool(&["systemd-analyze", "verify", unit.to_str().unwrap()]).unwrap();
    let complaints = String::from_utf8_lossy(&verified.stderr).into_owned();
    // The binary is not installed on a machine that builds it.
    let complaints: Vec<_> = complaints
        .lines()
        .filter(|line| line.contains("watchfire") && !line.contains("is not executable"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn a_service_manager_hears_that_it_is_ready_that_it_lives_and_that_it_stops() {
    let world = World::new();
    let path = world.folder.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut buffer = [0; 100];
        let length = manager.recv(&mut buffer).expect("a word of the agent");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let variables = [
        ("NOTIFY_SOCKET", path.as_os_str()),
        // One second: the least between two signs of life.
        ("WATCHDOG_USEC", "1000000".as_ref()),
    ];
    let agent = Agent::spawn_under(&world.folder, &[], &variables);
    assert!(heard().starts_with("READY=1"));
    assert!(agent.get("/health/ready").is_some(), "ready is ready");
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    assert_eq!(agent.terminate(), Some(0));
    let last = loop {
        let words = heard();
        if words != "WATCHDOG=1" {
            break words;
        }
    };
    assert!(last.starts_with("STOPPING=1"), "{last}");
}

//! Compiles components in a child process that limits itself, so that a compile bomb dies alone
//! and the compiler's memory goes back with the process.
//!
//! ```text
//!   agent                                     watchfire compile (the same executable)
//!   component --stdin-->   limits itself, compiles
//!             <--stdout--  the artefact, exit 0
//!             <--stderr--  why not, exit 1; or it is killed, and the signal says by which limit
//! ```
//!
//! The child gets no environment and no files, and nothing of what it writes is trusted with more
//! than a length.

use rustix::process::{Resource, Rlimit, Signal};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

/// Bytes of a component; a Python one has 18 MB.
pub const COMPONENT_BYTES_MAX: usize = 32 << 20;

/// Bytes of an artefact: five times the largest component (Python: 35 MB from 18 MB, Rust: three times).
pub const ARTEFACT_BYTES_MAX: usize = 160 << 20;

/// CPU seconds of a compilation: ten times what the largest component that we know of needs on a slow core.
pub const CPU_SECS_MAX: u64 = 60;

/// Address space of a compilation, bytes.
pub const ADDRESS_SPACE_BYTES_MAX: u64 = 2 << 30;

/// Wall time of a compilation: four times the CPU limit. A child of low priority on a busy machine may get a quarter of
/// a core; a Python component (20 s of CPU time) was once stopped after 90 s for that.
const WALL_MAX: Duration = Duration::from_secs(240);

/// Steps towards low priority: alerting comes before a new plugin.
const NICENESS: i32 = 10;

/// Bytes kept of what a child says about its failure.
const MESSAGE_BYTES_MAX: u64 = 4 << 10;

/// The image of this very process, even when the file was replaced by an upgrade meanwhile: another
/// build's artefacts would not load.
const SELF: &str = "/proc/self/exe";

/// Why there is no artefact.
#[derive(Debug, thiserror::Error)]
pub enum CompileFailure {
    /// The compiler does not take it; its own words.
    #[error("{0}")]
    Refused(String),
    /// More CPU time than a compilation gets.
    #[error(
        "its compilation was stopped: it takes more than its CPU time, {CPU_SECS_MAX} s at most"
    )]
    CpuLimit,
    /// More time than a compilation gets.
    #[error("its compilation was stopped after {} s", WALL_MAX.as_secs())]
    WallLimit,
    /// More memory than a compilation gets.
    #[error("its compilation wants more memory than it may have, {} MiB at most", ADDRESS_SPACE_BYTES_MAX >> 20)]
    OutOfMemory,
    /// More output than an artefact may have.
    #[error("its compiled code has more than {} MiB", ARTEFACT_BYTES_MAX >> 20)]
    OutputLimit,
    /// Too large to be tried.
    #[error("it has {0} bytes; a component may have {COMPONENT_BYTES_MAX}")]
    TooLarge(usize),
    /// Killed or crashed for another reason.
    #[error("its compilation ended with {status}: {message}")]
    Died {
        /// Exit code or signal.
        status: ExitStatus,
        /// The end of what it said.
        message: String,
    },
    /// There was no compilation.
    #[error("cannot run the compiling process")]
    Start(#[source] std::io::Error),
}

impl CompileFailure {
    /// Whether the same bytes would fail again; otherwise it is this machine's trouble, worth another try.
    pub fn is_final(&self) -> bool {
        match self {
            CompileFailure::Refused(_)
            | CompileFailure::CpuLimit
            | CompileFailure::OutOfMemory
            | CompileFailure::OutputLimit
            | CompileFailure::TooLarge(_) => true,
            // A compiler that crashes does so again; one that was killed fell to something else.
            CompileFailure::Died { status, .. } => {
                let signal = status.signal().and_then(Signal::from_named_raw);
                matches!(
                    signal,
                    Some(Signal::SEGV | Signal::ABORT | Signal::BUS | Signal::ILL)
                )
            }
            CompileFailure::WallLimit | CompileFailure::Start(_) => false,
        }
    }
}

/// Starts compiling children.
#[derive(Debug)]
pub struct Compiler {
    /// The executable, which knows the command `compile`.
    program: PathBuf,
    /// Options that decide the code: the child builds its engine from the same settings.
    options: Vec<&'static str>,
    /// How many children may run.
    permits: Semaphore,
}

impl Compiler {
    /// A compiler that runs this very executable, one child at a time.
    pub fn of_this_process(options: Vec<&'static str>) -> Self {
        Compiler::new(Path::new(SELF), options)
    }

    /// A compiler that runs `program compile OPTIONS`.
    pub fn new(program: &Path, options: Vec<&'static str>) -> Self {
        Compiler {
            program: program.to_owned(),
            options,
            permits: Semaphore::new(1),
        }
    }

    /// Lets one more child run at the same time, from now on until [`Compiler::narrow`]: at the start
    /// nothing else needs the cores.
    pub fn widen(&self) {
        self.permits.add_permits(1);
    }

    /// Takes back what [`Compiler::widen`] gave.
    pub fn narrow(&self) {
        self.permits.forget_permits(1);
    }

    /// Compiles one component; waits while another one is compiled. The child dies with this future.
    pub async fn compile(&self, component: &[u8]) -> Result<Vec<u8>, CompileFailure> {
        if component.len() > COMPONENT_BYTES_MAX {
            return Err(CompileFailure::TooLarge(component.len()));
        }
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        match tokio::time::timeout(WALL_MAX, self.run(component)).await {
            Ok(result) => result,
            Err(_) => Err(CompileFailure::WallLimit),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the compiler runs in a child; nothing of a plugin or of the configuration is on its command line"
    )]
    async fn run(&self, component: &[u8]) -> Result<Vec<u8>, CompileFailure> {
        let mut child = tokio::process::Command::new(&self.program)
            .arg("compile")
            .args(&self.options)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(CompileFailure::Start)?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(CompileFailure::Start(std::io::ErrorKind::BrokenPipe.into()));
        };
        let feed = async {
            // A child that died early breaks the pipe; its status says why.
            let _ = stdin.write_all(component).await;
            drop(stdin);
        };
        let ((), artefact, message) = tokio::join!(
            feed,
            read(stdout, ARTEFACT_BYTES_MAX as u64),
            read(stderr, MESSAGE_BYTES_MAX)
        );
        let artefact = artefact.map_err(CompileFailure::Start)?;
        if artefact.len() > ARTEFACT_BYTES_MAX {
            return Err(CompileFailure::OutputLimit);
        }
        let message = String::from_utf8_lossy(&message.unwrap_or_default())
            .trim()
            .to_owned();
        let status = child.wait().await.map_err(CompileFailure::Start)?;
        if status.success() && !artefact.is_empty() {
            return Ok(artefact);
        }
        Err(diagnose(status, message))
    }
}

/// Reads at most one byte more than `bytes_max`, then closes the pipe.
async fn read(mut pipe: impl AsyncRead + Unpin, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    (&mut pipe)
        .take(bytes_max + 1)
        .read_to_end(&mut content)
        .await?;
    Ok(content)
}

/// What an unsuccessful end means.
fn diagnose(status: ExitStatus, message: String) -> CompileFailure {
    // What Rust's allocator and mmap say at the end of the address space.
    let out_of_memory =
        message.contains("memory allocation of") || message.contains("Cannot allocate memory");
    let signal = status.signal().and_then(Signal::from_named_raw);
    match (signal, status.code()) {
        _ if out_of_memory => CompileFailure::OutOfMemory,
        (Some(Signal::XCPU), _) => CompileFailure::CpuLimit,
        (None, Some(1)) if !message.is_empty() => CompileFailure::Refused(message),
        _ => CompileFailure::Died { status, message },
    }
}

/// Limits this process before it touches a stranger's bytes: CPU time, address space, no core file, and priority unless
/// somebody waits for it in the `foreground`. Where it was started under lower limits, those stay.
pub fn limit_this_process(foreground: bool) -> std::io::Result<()> {
    let hard = |resource, limit: u64| {
        let limit = inherited(resource).map_or(limit, |inherited| inherited.min(limit));
        rustix::process::setrlimit(
            resource,
            Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            },
        )
    };
    // The soft limit sends SIGXCPU, which the parent understands; the hard one kills without a word.
    let last = CPU_SECS_MAX + 5;
    let last = inherited(Resource::Cpu).map_or(last, |inherited| inherited.min(last));
    rustix::process::setrlimit(
        Resource::Cpu,
        Rlimit {
            current: Some(CPU_SECS_MAX.min(last.saturating_sub(1)).max(1)),
            maximum: Some(last),
        },
    )?;
    hard(Resource::As, ADDRESS_SPACE_BYTES_MAX)?;
    hard(Resource::Core, 0)?;
    hard(Resource::Fsize, ARTEFACT_BYTES_MAX as u64)?;
    if !foreground {
        rustix::process::nice(NICENESS)?;
    }
    Ok(())
}

/// What cannot be raised again; none: no limit.
fn inherited(resource: Resource) -> Option<u64> {
    rustix::process::getrlimit(resource).maximum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell script in the compiler's place.
    async fn with_script(script: &str) -> Result<Vec<u8>, CompileFailure> {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("compiler");
        crate::plugin::test_support::script(&program, script);
        Compiler::new(&program, vec!["--small-address-space"])
            .compile(b"component")
            .await
    }

    #[tokio::test]
    async fn the_artefact_is_what_the_child_writes() {
        let artefact =
            with_script("[ \"$*\" = 'compile --small-address-space' ] || exit 1; tr a-z A-Z")
                .await
                .expect("compiled");
        assert_eq!(artefact, b"COMPONENT");
    }

    #[tokio::test]
    async fn the_environment_stays_here() {
        let artefact = with_script("/usr/bin/env | /bin/grep -c CARGO; echo .").await;
        assert_eq!(artefact.expect("output"), b"0\n.\n");
    }

    #[tokio::test]
    async fn the_error_says_what_ended_the_child() {
        for (script, expected) in [
            (
                "echo 'magic header not detected' >&2; exit 1",
                "magic header not detected",
            ),
            (
                "kill -XCPU $$",
                "its compilation was stopped: it takes more than its CPU time, 60 s at most",
            ),
            (
                "echo 'memory allocation of 65536 bytes failed' >&2; kill -ABRT $$",
                "its compilation wants more memory than it may have, 2048 MiB at most",
            ),
            (
                "kill -SEGV $$",
                "its compilation ended with signal: 11 (SIGSEGV)",
            ),
            ("exit 0", "its compilation ended with exit status: 0"),
        ] {
            let error = with_script(script).await.expect_err(script);
            let text = error.to_string();
            assert!(text.starts_with(expected), "{script}: {text}");
        }
    }

    #[tokio::test]
    async fn a_child_that_never_stops_writing_is_cut_off() {
        let error = with_script("exec cat /dev/zero")
            .await
            .expect_err("cut off");
        assert!(matches!(error, CompileFailure::OutputLimit), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_never_ends_is_stopped() {
        let error = with_script("exec sleep 1000").await.expect_err("stopped");
        assert!(matches!(error, CompileFailure::WallLimit), "{error}");
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_tried() {
        let compiler = Compiler::new(Path::new("/nonexistent"), Vec::new());
        let huge = vec![0; COMPONENT_BYTES_MAX + 1];
        let error = compiler.compile(&huge).await.expect_err("refused");
        assert!(matches!(error, CompileFailure::TooLarge(_)), "{error}");
        let error = compiler.compile(b"small").await.expect_err("no program");
        assert!(!error.is_final(), "{error}");
    }
}

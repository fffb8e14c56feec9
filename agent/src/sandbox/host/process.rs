//! The only place where the agent starts programs for guests: an argument vector, an empty environment,
//! a process group of its own that is killed at the limit, bounded output, no shell.

use crate::sandbox::types::CallError;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

/// For the pipes to end after the program did: a daemon that it left behind may hold them for ever.
const PIPE_GRACE: Duration = Duration::from_millis(200);
/// For a killed process to be gone; one that waits for a dead disk never is.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// Where programs named without a folder are looked for.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to run. Nothing of it is interpreted.
pub(crate) struct Run<'a> {
    /// Program and arguments; not empty.
    pub(crate) argv: &'a [String],
    /// The environment beside `PATH` and `LC_ALL`.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// Working directory; none: `/`.
    pub(crate) cwd: Option<&'a Path>,
    /// User and group to become.
    pub(crate) user: Option<(u32, u32)>,
    /// Standard input; empty: none.
    pub(crate) stdin: Vec<u8>,
    /// The process group is killed after this.
    pub(crate) timeout: Duration,
    /// Kept of stdout and of stderr each; the rest is read and dropped.
    pub(crate) output_bytes_max: usize,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Exit code, 128 + number of the signal, or -1 where it was killed at the limit.
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) timed_out: bool,
    /// Whether output was dropped.
    pub(crate) truncated: bool,
    pub(crate) elapsed: Duration,
}

/// A process group, killed when this is dropped: a call that is cancelled leaves nothing behind.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Gone already: nothing to do.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    truncated: bool,
}

/// Runs a program to its end or its limit.
///
/// # Errors
/// `Unavailable` where it does not start.
pub(crate) async fn run(what: Run<'_>) -> Result<Finished, CallError> {
    let started = Instant::now();
    let deadline = started + what.timeout;
    let program = &what.argv[0];
    #[expect(
        clippy::disallowed_methods,
        reason = "this module is the one place for it"
    )]
    let mut command = tokio::process::Command::new(program);
    command
        .args(&what.argv[1..])
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("LC_ALL", "C")
        .envs(what.env)
        .current_dir(what.cwd.unwrap_or(Path::new("/")))
        .stdin(if what.stdin.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some((user, group)) = what.user {
        command.uid(user).gid(group);
    }
    let mut child = command.spawn().map_err(|error| CallError::Unavailable {
        message: format!("cannot start {program:?}: {error}"),
        retry_after: None,
    })?;
    let mut group = Group(
        child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw),
    );

    let (mut out, mut err) = (Kept::default(), Kept::default());
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ended: Option<std::io::Result<ExitStatus>> = {
        let pipes = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A program that does not read its input is not at fault.
                    let _ = stdin.write_all(&what.stdin).await;
                }
            };
            let max = what.output_bytes_max;
            tokio::join!(
                feed,
                drain(stdout, &mut out, max),
                drain(stderr, &mut err, max)
            );
        };
        tokio::pin!(pipes);
        let whole = async {
            let status = tokio::select! {
                status = child.wait() => {
                    let _ = timeout(PIPE_GRACE, &mut pipes).await;
                    return status;
                }
                () = &mut pipes => child.wait(),
            };
            status.await
        };
        timeout_at(deadline, whole).await.ok()
    };
    let timed_out = ended.is_none();
    let status = match ended {
        Some(status) => {
            group.0 = None;
            status.map_err(|error| CallError::Unavailable {
                message: format!("cannot wait for {program:?}: {error}"),
                retry_after: None,
            })?
        }
        None => {
            drop(group);
            let _ = timeout(KILL_GRACE, child.wait()).await;
            ExitStatus::default()
        }
    };
    Ok(Finished {
        status: if timed_out { -1 } else { code(status) },
        stdout: out.bytes,
        stderr: err.bytes,
        timed_out,
        truncated: out.truncated || err.truncated,
        elapsed: started.elapsed(),
    })
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    let killed = status.signal().map(|signal| 128 + signal);
    status.code().or(killed).unwrap_or(-1)
}

/// Reads to the end and keeps the start; a full pipe would stop the program.
async fn drain(from: Option<impl AsyncRead + Unpin>, kept: &mut Kept, bytes_max: usize) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let room = bytes_max.saturating_sub(kept.bytes.len());
        kept.truncated |= read > room;
        kept.bytes.extend_from_slice(&buffer[..read.min(room)]);
    }
}

/// User and group of a name in the passwd file, or of a number.
pub(crate) fn user(name: &str, passwd: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let login = fields.next()?;
        let user = fields.nth(1)?;
        let group = fields.next()?;
        (login == name || user == name).then_some((user.parse().ok()?, group.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, timeout: Duration) -> Finished {
        let argv = ["sh", "-c", script].map(str::to_owned);
        let env = BTreeMap::from([("GIVEN".to_owned(), "yes".to_owned())]);
        run(Run {
            argv: &argv,
            env: &env,
            cwd: None,
            user: None,
            stdin: b"input".to_vec(),
            timeout,
            output_bytes_max: 100,
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn a_program_gets_its_input_and_nothing_else() {
        let done = shell(
            "cat; pwd; echo $GIVEN $HOME >&2; exit 3",
            Duration::from_secs(5),
        )
        .await;
        assert_eq!(done.status, 3);
        assert_eq!(done.stdout, b"input/\n");
        assert_eq!(done.stderr, b"yes\n");
        assert!(!done.timed_out && !done.truncated);
    }

    #[tokio::test]
    async fn the_whole_group_dies_at_the_limit() {
        let done = shell("sleep 60 & echo $!; wait", Duration::from_secs(3)).await;
        assert!(done.timed_out);
        assert_eq!(done.status, -1);
        assert!(done.elapsed < Duration::from_secs(30));
        let sleeper: i32 = String::from_utf8(done.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let sleeper = Pid::from_raw(sleeper).unwrap();
        // Killed at once; gone as soon as somebody reaps it.
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", sleeper.as_raw_nonzero()));
        while let Ok(stat) = state()
            && !stat.contains(") Z ")
        {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn output_is_bounded_and_never_stops_the_program() {
        let done = shell(
            "head -c 1000000 /dev/zero; echo end >&2",
            Duration::from_secs(30),
        )
        .await;
        assert_eq!(done.status, 0);
        assert_eq!(done.stdout.len(), 100);
        assert!(done.truncated);
        assert_eq!(done.stderr, b"end\n");
    }

    #[tokio::test]
    async fn a_daemon_left_behind_does_not_hold_the_call() {
        let done = shell("sleep 40 & exit 0", Duration::from_secs(40)).await;
        assert_eq!(done.status, 0);
        assert!(done.elapsed < Duration::from_secs(20), "{:?}", done.elapsed);
    }

    #[test]
    fn users_are_looked_up_by_name_or_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/:/bin/false\nbroken\n";
        assert_eq!(user("www", passwd), Some((33, 34)));
        assert_eq!(user("33", passwd), Some((33, 34)));
        assert_eq!(user("nobody", passwd), None);
    }
}

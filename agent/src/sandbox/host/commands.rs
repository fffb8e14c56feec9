//! `commands`: programs that the operator wrote down under `[command.NAME]`, granted by name.

use super::HostState;
use super::process::{self, Run};
use crate::sandbox::bindings::wit;
use crate::sandbox::types::CallError;

/// Arguments that a plugin may add.
const ARGUMENTS_MAX: usize = 64;
/// Bytes of one of them.
const ARGUMENT_BYTES_MAX: usize = 4 << 10;

impl HostState {
    async fn run_command(
        &mut self,
        name: &str,
        arguments: Vec<String>,
        stdin: Vec<u8>,
    ) -> Result<wit::commands::Output, CallError> {
        let granted = &self.using.settings.grants.commands;
        if !granted.iter().any(|granted| granted == name) {
            return Err(self.using.denied(
                &format!("command {name:?}"),
                &format!("commands = [{name:?}]"),
            ));
        }
        if self.dry_run {
            return Err(dry_run());
        }
        let config = self.host.config.load_full();
        let wrong = |what: String| CallError::Config(format!("[command.{name}] {what}"));
        let Some(spec) = config.commands.get(name) else {
            return Err(wrong(
                "does not exist: write it, with argv = [\"…\"]".into(),
            ));
        };
        if spec.argv.is_empty() {
            return Err(wrong("has an empty argv".into()));
        }
        if !stdin.is_empty() && !spec.stdin {
            return Err(wrong("takes no standard input: set stdin = true".into()));
        }
        if arguments.len() > ARGUMENTS_MAX
            || arguments
                .iter()
                .any(|one| one.len() > ARGUMENT_BYTES_MAX || one.contains('\0'))
        {
            return Err(CallError::Internal(format!(
                "command {name:?}: more than {ARGUMENTS_MAX} arguments, one of more than {ARGUMENT_BYTES_MAX} bytes, or a zero byte"
            )));
        }
        let user = match &spec.user {
            None => None,
            Some(user) => {
                let passwd = tokio::fs::read_to_string("/etc/passwd").await;
                let found = process::user(user, &passwd.unwrap_or_default());
                Some(found.ok_or_else(|| wrong(format!("user {user:?} does not exist")))?)
            }
        };
        let mut argv = spec.argv.clone();
        argv.extend(arguments);
        let done = process::run(Run {
            argv: &argv,
            env: &spec.env,
            cwd: spec.cwd.as_deref(),
            user,
            stdin,
            timeout: spec.timeout,
            output_bytes_max: spec.max_output_bytes,
        })
        .await?;
        Ok(wit::commands::Output {
            status: done.status,
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
            timed_out: done.timed_out,
            truncated: done.truncated,
            elapsed_us: u64::try_from(done.elapsed.as_micros()).unwrap_or(u64::MAX),
        })
    }
}

/// Why nothing happens in a dry run.
pub(super) fn dry_run() -> CallError {
    CallError::Denied("this is a dry run: nothing is changed".into())
}

impl wit::commands::Host for HostState {
    async fn run(
        &mut self,
        name: String,
        arguments: Vec<String>,
        stdin: Vec<u8>,
    ) -> wasmtime::Result<Result<wit::commands::Output, wit::types::Error>> {
        let charged = self.charge()?;
        let output = self.run_command(&name, arguments, stdin).await;
        self.answer(charged, output)
    }
}

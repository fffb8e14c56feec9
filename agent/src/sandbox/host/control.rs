//! `control`: only actions have it. What it changes, the operator wrote down: units with verbs, process
//! names with signals, globs of files.

use super::HostState;
use super::commands::dry_run;
use super::files::modified_at;
use super::glob::Glob;
use crate::sandbox::bindings::wit;
use crate::sandbox::bindings::wit::control::Verb;
use crate::sandbox::types::CallError;
use rustix::fs::{AtFlags, FileType, statat, unlinkat};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// For systemd to finish a job; an action's wall limit of 60 s ends it before.
const JOB_TIMEOUT: Duration = Duration::from_secs(90);
/// Between two starts with the same process id: a number comes round after thousands of others.
const START_TOLERANCE_SECS: u64 = 2;
/// Signals by name. STOP is missing on purpose: a stopped process looks alive to everybody.
const SIGNALS: [(&str, Signal); 8] = [
    ("ABRT", Signal::ABORT),
    ("CONT", Signal::CONT),
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("KILL", Signal::KILL),
    ("TERM", Signal::TERM),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
];

impl HostState {
    async fn service(&mut self, unit: &str, verb: Verb) -> Result<(), CallError> {
        let verb = match verb {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
            Verb::Reload => "reload",
        };
        let line = format!("{unit}:{verb}");
        if !self.using.settings.grants.services.contains(&line) {
            return Err(self.using.denied(
                &format!("{verb} of {unit:?}"),
                &format!("services = [{line:?}]"),
            ));
        }
        if self.dry_run {
            return Err(dry_run());
        }
        if unit.starts_with('-') || unit.contains(['*', '?', '[', '\0']) {
            return Err(CallError::Denied(format!(
                "{unit:?} is no name of one unit"
            )));
        }
        let arguments = ["--no-ask-password", "--quiet", verb, "--", unit];
        let done = self.systemctl(&arguments, JOB_TIMEOUT).await?;
        match done.status {
            0 => Ok(()),
            // The LSB's "not installed", which systemctl keeps.
            5 => Err(CallError::Rejected(format!(
                "systemctl {verb} {unit}: {}",
                String::from_utf8_lossy(&done.stderr).trim()
            ))),
            status => Err(CallError::Unavailable {
                message: format!(
                    "systemctl {verb} {unit} ended with {status}: {}",
                    String::from_utf8_lossy(&done.stderr).trim()
                ),
                retry_after: None,
            }),
        }
    }

    fn signal(&self, pid: u32, started_at: u64, signal: &str) -> Result<(), CallError> {
        let gone = || CallError::Rejected(format!("process {pid} of that start is gone"));
        let Some((_, number)) = SIGNALS.into_iter().find(|(name, _)| *name == signal) else {
            let names: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
            return Err(CallError::Config(format!(
                "there is no signal {signal:?}: write one of {}",
                names.join(", ")
            )));
        };
        let target = i32::try_from(pid).ok().filter(|pid| *pid > 1);
        let Some(target) = target.and_then(Pid::from_raw) else {
            return Err(CallError::Denied(format!(
                "process {pid} is never signalled"
            )));
        };
        if pid == std::process::id() {
            return Err(CallError::Denied("the agent does not signal itself".into()));
        }
        // Held from here on: what is checked is what gets the signal.
        let held = pidfd_open(target, PidfdFlags::empty()).map_err(|_| gone())?;
        let process = self.host.system.process(pid).ok_or_else(gone)?;
        let line = format!("{}:{signal}", process.name);
        if !self.using.settings.grants.signals.contains(&line) {
            return Err(self.using.denied(
                &format!("{signal} to {:?}", process.name),
                &format!("signals = [{line:?}]"),
            ));
        }
        if self.dry_run {
            return Err(dry_run());
        }
        if process.started_at.abs_diff(started_at) > START_TOLERANCE_SECS {
            return Err(gone());
        }
        pidfd_send_signal(&held, number).map_err(|error| match error {
            rustix::io::Errno::SRCH => gone(),
            error => CallError::Unavailable {
                message: format!("signal {signal} to process {pid}: {error}"),
                retry_after: None,
            },
        })
    }

    async fn delete_older(&mut self, glob: &str, age: Duration) -> Result<u64, CallError> {
        let granted = &self.using.settings.grants.delete;
        let (grant, asked) = self.granted_glob(glob, granted, "delete")?;
        if self.dry_run {
            return Err(dry_run());
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let before = now.saturating_sub(age).as_secs();
        let done = Self::blocking(move || delete(&grant, &asked, before)).await?;
        done.map_err(|error| CallError::Unavailable {
            message: format!("{glob:?}: {error}"),
            retry_after: None,
        })
    }
}

/// Deletes regular files last changed before `before`, seconds since 1970; the bytes they had.
fn delete(grant: &Glob, glob: &Glob, before: u64) -> std::io::Result<u64> {
    let mut freed = 0;
    for file in grant.list(glob)? {
        if modified_at(&file.stat) >= before {
            continue;
        }
        // Looked at once more: it may have been replaced since the listing.
        let Ok(stat) = statat(&file.folder, &file.name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let same = stat.st_ino == file.stat.st_ino && stat.st_dev == file.stat.st_dev;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if same && regular && modified_at(&stat) < before {
            unlinkat(&file.folder, &file.name, AtFlags::empty())?;
            freed += u64::try_from(stat.st_size).unwrap_or(0);
        }
    }
    Ok(freed)
}

impl wit::control::Host for HostState {
    async fn service(
        &mut self,
        unit: String,
        verb: Verb,
    ) -> wasmtime::Result<Result<(), wit::types::Error>> {
        let charged = self.charge()?;
        let done = HostState::service(self, &unit, verb).await;
        self.answer(charged, done)
    }

    async fn signal_process(
        &mut self,
        pid: u32,
        started_at: u64,
        signal: String,
    ) -> wasmtime::Result<Result<(), wit::types::Error>> {
        let charged = self.charge()?;
        let done = self.signal(pid, started_at, &signal);
        self.answer(charged, done)
    }

    async fn delete_older(
        &mut self,
        glob: String,
        seconds: u64,
    ) -> wasmtime::Result<Result<u64, wit::types::Error>> {
        let charged = self.charge()?;
        let freed = HostState::delete_older(self, &glob, Duration::from_secs(seconds)).await;
        self.answer(charged, freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::host::tests::{state, state_with};
    use crate::sandbox::types::{Grants, Kind};
    use std::fs;

    #[tokio::test]
    async fn services_go_by_unit_and_verb() {
        let folder = tempfile::tempdir().unwrap();
        let fake = folder.path().join("systemctl");
        fs::write(
            &fake,
            "echo \"$@\" > ${0}.args; echo broken >&2; exit $(cat ${0}.code)",
        )
        .unwrap();
        let code = |code: &str| fs::write(folder.path().join("systemctl.code"), code).unwrap();
        let grants = Grants {
            services: vec!["nginx.service:restart".into()],
            ..Grants::default()
        };
        let argv = vec!["sh".to_owned(), fake.to_str().unwrap().to_owned()];
        let mut state = state_with(Kind::Action, grants, argv);

        let denied = state
            .service("nginx.service", Verb::Stop)
            .await
            .unwrap_err();
        assert_eq!(
            denied.to_string(),
            "stop of \"nginx.service\" is not granted: add `grant = { services = [\"nginx.service:stop\"] }` to [[recovery]] \"test\""
        );
        code("0");
        state.service("nginx.service", Verb::Restart).await.unwrap();
        let told = fs::read_to_string(folder.path().join("systemctl.args")).unwrap();
        assert_eq!(told, "--no-ask-password --quiet restart -- nginx.service\n");
        code("1");
        let failed = state
            .service("nginx.service", Verb::Restart)
            .await
            .unwrap_err();
        assert_eq!(
            failed.to_string(),
            "systemctl restart nginx.service ended with 1: broken"
        );
        code("5");
        let failed = state
            .service("nginx.service", Verb::Restart)
            .await
            .unwrap_err();
        assert_eq!(failed.name(), "rejected");
        state.dry_run = true;
        let dry = state
            .service("nginx.service", Verb::Restart)
            .await
            .unwrap_err();
        assert_eq!(dry.to_string(), "this is a dry run: nothing is changed");
    }

    #[tokio::test]
    async fn signals_reach_the_granted_process_of_that_start() {
        #[expect(
            clippy::disallowed_methods,
            reason = "the test needs a process of its own"
        )]
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let grants = Grants {
            signals: vec!["sleep:TERM".into()],
            ..Grants::default()
        };
        let state = state(Kind::Action, grants);
        // Between fork and exec it has the name of this test.
        let process = loop {
            let process = state.host.system.process(child.id()).unwrap();
            if process.name == "sleep" {
                break process;
            }
            tokio::task::yield_now().await;
        };
        let refused = state
            .signal(child.id(), process.started_at, "KILL")
            .unwrap_err();
        assert!(
            refused.to_string().contains("signals = [\"sleep:KILL\"]"),
            "{refused}"
        );
        let gone = state
            .signal(child.id(), process.started_at - 100, "TERM")
            .unwrap_err();
        assert_eq!(gone.name(), "rejected");
        for pid in [0, 1, std::process::id(), u32::MAX] {
            assert_eq!(
                state.signal(pid, 0, "TERM").unwrap_err().name(),
                "denied",
                "{pid}"
            );
        }
        assert_eq!(
            state.signal(child.id(), 0, "STOP").unwrap_err().name(),
            "config"
        );
        state
            .signal(child.id(), process.started_at, "TERM")
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), None);
    }

    #[tokio::test]
    async fn old_files_under_the_grant_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_str().unwrap().to_owned();
        let old = SystemTime::now() - Duration::from_secs(7_200);
        for (name, modified) in [
            ("old.tmp", old),
            ("new.tmp", SystemTime::now()),
            ("old.txt", old),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, "12345").unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(modified).unwrap();
        }
        let grants = Grants {
            delete: vec![format!("{at}/*.tmp")],
            ..Grants::default()
        };
        let mut state = state(Kind::Action, grants);
        let hour = Duration::from_secs(3_600);
        let glob = format!("{at}/*.tmp");
        assert_eq!(state.delete_older(&glob, hour).await.unwrap(), 5);
        let left: std::collections::BTreeSet<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(left.into_iter().collect::<Vec<_>>(), ["new.tmp", "old.txt"]);
        let wider = state
            .delete_older(&format!("{at}/*"), hour)
            .await
            .unwrap_err();
        assert_eq!(wider.name(), "denied");
    }
}

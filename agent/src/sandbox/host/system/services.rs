//! Units of systemd, asked through systemctl.

use crate::sandbox::bindings::wit;
use crate::sandbox::host::HostState;
use crate::sandbox::host::process::{self, Finished, Run};
use crate::sandbox::types::CallError;
use std::collections::BTreeMap;
use std::time::Duration;

/// For systemd to answer a question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(4);
/// Bytes of its answer: some thousand units.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// What is asked of each unit.
const PROPERTIES: &str =
    "--property=Id,ActiveState,SubState,NRestarts,StateChangeTimestampMonotonic";

impl HostState {
    pub(super) async fn list_services(
        &mut self,
        pattern: &str,
    ) -> Result<Vec<wit::system::Service>, CallError> {
        if pattern.is_empty() || pattern.starts_with('-') || pattern.contains(['\0', '\n']) {
            return Err(CallError::Config(format!(
                "{pattern:?} is no name or glob of units: write `nginx.service` or `*.timer`"
            )));
        }
        let arguments = ["show", "--no-pager", PROPERTIES, "--", pattern];
        let done = self.systemctl(&arguments, QUESTION_TIMEOUT).await?;
        if done.status != 0 {
            return Err(CallError::Unavailable {
                message: format!(
                    "systemctl show ended with {}: {}",
                    done.status,
                    String::from_utf8_lossy(&done.stderr).trim()
                ),
                retry_after: None,
            });
        }
        let boot_time = self.host.system.boot_time().unwrap_or(0);
        Ok(parse(&String::from_utf8_lossy(&done.stdout), boot_time))
    }

    pub(in crate::sandbox::host) async fn systemctl(
        &mut self,
        arguments: &[&str],
        timeout: Duration,
    ) -> Result<Finished, CallError> {
        let mut argv = self.host.system.systemctl.clone();
        argv.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let env = BTreeMap::new();
        let done = process::run(Run {
            argv: &argv,
            env: &env,
            cwd: None,
            user: None,
            stdin: Vec::new(),
            timeout,
            output_bytes_max: ANSWER_BYTES_MAX,
        });
        let done = done.await.map_err(|error| CallError::Unavailable {
            message: format!("this host has no systemd to ask: {error}"),
            retry_after: None,
        })?;
        if done.timed_out {
            return Err(CallError::Unavailable {
                message: format!("systemctl did not answer within {timeout:?}"),
                retry_after: None,
            });
        }
        Ok(done)
    }
}

/// Blocks of `Key=value`, parted by empty lines.
fn parse(answer: &str, boot_time: u64) -> Vec<wit::system::Service> {
    answer
        .split("\n\n")
        .filter_map(|block| {
            let of = |key: &str| {
                block
                    .lines()
                    .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            };
            let micros: u64 = of("StateChangeTimestampMonotonic")
                .and_then(|value| value.parse().ok())
                .unwrap_or(0);
            Some(wit::system::Service {
                unit: of("Id")?.to_owned(),
                active_state: of("ActiveState")?.to_owned(),
                sub_state: of("SubState").unwrap_or("").to_owned(),
                restarts: of("NRestarts").and_then(|n| n.parse().ok()).unwrap_or(0),
                // 0 for a unit that never changed.
                since: if micros == 0 {
                    0
                } else {
                    boot_time + micros / 1_000_000
                },
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::host::tests::state_with;
    use crate::sandbox::types::{Grants, Kind};

    #[test]
    fn blocks_become_services() {
        let answer = "Id=a.service\nActiveState=active\nSubState=running\nNRestarts=2\nStateChangeTimestampMonotonic=5000000\n\nActiveState=inactive\nSubState=dead\nId=b.timer\nStateChangeTimestampMonotonic=0\n";
        let services = parse(answer, 100);
        assert_eq!(services.len(), 2);
        assert_eq!((services[0].restarts, services[0].since), (2, 105));
        assert_eq!((&*services[1].unit, services[1].since), ("b.timer", 0));
    }

    #[tokio::test]
    async fn a_host_without_systemd_is_told_so() {
        let grants = Grants {
            system: true,
            ..Grants::default()
        };
        let absent = vec!["/nonexistent/systemctl".to_owned()];
        let mut state = state_with(Kind::Probe, grants, absent);
        let error = state.list_services("*").await.unwrap_err();
        assert_eq!(error.name(), "unavailable");
        assert!(error.to_string().contains("has no systemd"), "{error}");
        assert_eq!(
            state.list_services("--all").await.unwrap_err().name(),
            "config"
        );
    }
}

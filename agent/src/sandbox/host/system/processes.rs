//! Processes, read from their folders in procfs.

use super::families::{USER_HZ, plain};
use super::{Reader, Reading, lock};
use crate::sandbox::bindings::wit;
use std::collections::{HashMap, HashSet};
use std::io;
use tokio::time::Instant;

/// Processes of one answer: with half a kilobyte each they stay below one transfer.
const PROCESSES_MAX: usize = 4_096;
/// Bytes kept of a command line.
const COMMAND_BYTES_MAX: usize = 512;
/// The kernel cuts names of processes to this.
const NAME_BYTES_MAX: usize = 15;

/// CPU time of processes at an earlier reading, by id and start.
pub(super) type Before = HashMap<(u32, u64), (u64, Instant)>;

/// What /proc/PID/stat says.
#[derive(Clone, Debug, PartialEq)]
struct Stat {
    pid: u32,
    name: String,
    state: char,
    parent: u32,
    /// Ticks of user and system time.
    cpu: u64,
    threads: u32,
    /// Ticks since boot.
    started: u64,
    resident_pages: u64,
}

/// A process as `control` checks it.
pub(crate) struct Identity {
    pub(crate) name: String,
    /// Seconds since 1970.
    pub(crate) started_at: u64,
}

impl Reader {
    pub(super) fn process_counts(&self) -> io::Result<Vec<Reading>> {
        let mut readings = vec![plain("process_count", self.pids()?.len() as f64)];
        let stat = self.stat_of_round()?;
        for (key, metric) in [
            ("procs_running ", "process_running"),
            ("procs_blocked ", "process_blocked"),
        ] {
            let count = stat.lines().find_map(|line| line.strip_prefix(key));
            let count = count.and_then(|count| count.trim().parse().ok());
            readings.extend(count.map(|count| plain(metric, count)));
        }
        // "0.00 0.01 0.05 2/345 6789": running and all threads.
        let load = self.text("proc/loadavg").unwrap_or_default();
        let threads = load.split_ascii_whitespace().nth(3).and_then(|word| {
            let (_, all) = word.split_once('/')?;
            all.parse().ok()
        });
        readings.extend(threads.map(|threads| plain("thread_count", threads)));
        Ok(readings)
    }

    /// The process with this id now.
    pub(crate) fn process(&self, pid: u32) -> Option<Identity> {
        let stat = self.stat(pid)?;
        Some(Identity {
            started_at: self.started_at(&stat, self.boot_time()?),
            name: stat.name,
        })
    }

    /// Processes called `name`; all where it is empty.
    pub(super) fn processes(&self, name: &str) -> io::Result<Vec<wit::system::Process>> {
        let boot_time = self.boot_time().unwrap_or(0);
        let uptime = self.text("proc/uptime").unwrap_or_default();
        let uptime: f64 = uptime
            .split_ascii_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0.0);
        let page = rustix::param::page_size() as u64;
        let now = Instant::now();
        let pids = self.pids()?;
        let alive: HashSet<u32> = pids.iter().copied().collect();
        let mut before = lock(&self.processes_before);
        before.retain(|(pid, _), _| alive.contains(pid));

        let mut found = Vec::new();
        for pid in pids {
            // Gone since the listing.
            let Some(stat) = self.stat(pid) else { continue };
            if !name.is_empty() && !self.is_called(&stat, name) {
                continue;
            }
            let earlier = before.insert((pid, stat.started), (stat.cpu, now));
            let (ticks, seconds) = match earlier {
                Some((cpu, at)) if at < now => {
                    (stat.cpu.saturating_sub(cpu), (now - at).as_secs_f64())
                }
                _ => (stat.cpu, uptime - stat.started as f64 / USER_HZ),
            };
            found.push(wit::system::Process {
                pid,
                parent: (stat.parent != 0).then_some(stat.parent),
                command: self.command(pid).unwrap_or_else(|| stat.name.clone()),
                unit: self.unit(pid),
                run_state: state_name(stat.state).to_owned(),
                threads: stat.threads,
                cpu_ratio: if seconds > 0.0 {
                    ticks as f64 / USER_HZ / seconds
                } else {
                    0.0
                },
                resident_bytes: stat.resident_pages * page,
                open_files: self.open_files(pid),
                started_at: self.started_at(&stat, boot_time),
                name: stat.name,
            });
            if found.len() == PROCESSES_MAX {
                break;
            }
        }
        Ok(found)
    }

    fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        for entry in std::fs::read_dir(self.path("proc"))? {
            let name = entry?.file_name();
            pids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        Ok(pids)
    }

    fn stat(&self, pid: u32) -> Option<Stat> {
        parse(&self.text(&format!("proc/{pid}/stat")).ok()?)
    }

    fn started_at(&self, stat: &Stat, boot_time: u64) -> u64 {
        boot_time + stat.started / USER_HZ as u64
    }

    /// By the kernel's name, or by the program's where the kernel cut it.
    fn is_called(&self, stat: &Stat, name: &str) -> bool {
        if stat.name == name {
            return true;
        }
        if stat.name.len() < NAME_BYTES_MAX || !name.starts_with(&stat.name) {
            return false;
        }
        let command = self.command(stat.pid).unwrap_or_default();
        let program = command.split(' ').next().unwrap_or("");
        program.rsplit('/').next() == Some(name)
    }

    fn command(&self, pid: u32) -> Option<String> {
        let text = self.text(&format!("proc/{pid}/cmdline")).ok()?;
        let line = text.trim_end_matches('\0').replace('\0', " ");
        (!line.is_empty())
            .then(|| crate::sandbox::convert::cut(&line, COMMAND_BYTES_MAX).to_owned())
    }

    /// The unit in the path of its control group.
    fn unit(&self, pid: u32) -> Option<String> {
        let text = self.text(&format!("proc/{pid}/cgroup")).ok()?;
        unit_of(&text).map(str::to_owned)
    }

    /// None where we may not look.
    fn open_files(&self, pid: u32) -> Option<u32> {
        let files = std::fs::read_dir(self.path(&format!("proc/{pid}/fd"))).ok()?;
        u32::try_from(files.count()).ok()
    }
}

fn unit_of(cgroup: &str) -> Option<&str> {
    // Version 2 is the line `0::/path`; in version 1 systemd has a line of its own.
    let path = cgroup.lines().find_map(|line| {
        line.strip_prefix("0::")
            .filter(|path| *path != "/")
            .or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    })?;
    let units = [".service", ".scope"];
    path.rsplit('/')
        .find(|segment| units.iter().any(|unit| segment.ends_with(unit)))
}

/// `PID (name) S ppid …`; the name may hold spaces and brackets, so it ends at the last one.
fn parse(stat: &str) -> Option<Stat> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| words.get(at)?.parse::<u64>().ok();
    Some(Stat {
        pid: pid.parse().ok()?,
        name: name.to_owned(),
        state: words.first()?.chars().next()?,
        parent: u32::try_from(number(1)?).ok()?,
        cpu: number(11)? + number(12)?,
        threads: u32::try_from(number(17)?).ok()?,
        started: number(19)?,
        resident_pages: number(21)?,
    })
}

fn state_name(state: char) -> &'static str {
    match state {
        'R' => "running",
        'S' => "sleeping",
        'D' => "waiting",
        'Z' => "zombie",
        'T' | 't' => "stopped",
        'I' => "idle",
        'X' | 'x' => "dead",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::super::SystemSettings;
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let stat = parse(
            "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 1000 4096 25 184 0",
        )
        .unwrap();
        assert_eq!(stat.name, "a) b (c");
        assert_eq!(
            (stat.cpu, stat.threads, stat.started, stat.resident_pages),
            (200, 3, 1000, 25)
        );
        assert_eq!(parse("garbage"), None);
    }

    #[test]
    fn units_are_found_in_both_versions() {
        for (cgroup, unit) in [
            ("0::/system.slice/nginx.service\n", Some("nginx.service")),
            (
                "0::/user.slice/user-1.slice/user@1.service/app.slice/x.scope\n",
                Some("x.scope"),
            ),
            (
                "12:cpu:/\n1:name=systemd:/system.slice/a.service\n0::/\n",
                Some("a.service"),
            ),
            ("0::/\n", None),
        ] {
            assert_eq!(unit_of(cgroup), unit, "{cgroup}");
        }
    }

    #[test]
    fn this_process_is_found_by_its_name() {
        let reader = Reader::new(SystemSettings::default());
        let own = std::process::id();
        let identity = reader.process(own).unwrap();
        let found = reader.processes(&identity.name).unwrap();
        let me = found.iter().find(|process| process.pid == own).unwrap();
        assert_eq!(me.started_at, identity.started_at);
        assert!(me.threads >= 1 && me.resident_bytes > 0 && me.open_files.is_some());
        assert!(me.cpu_ratio.is_finite());
        assert!(reader.processes("no such process").unwrap().is_empty());
        assert!(reader.processes("").unwrap().len() >= found.len());
    }
}

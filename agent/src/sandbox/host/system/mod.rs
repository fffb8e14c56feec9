//! `system`: the machine's numbers, processes and services.
//!
//! One reading serves all probes of a round: a family that was read less than half a second ago is
//! not read again. What the kernel offers in a small file is read from there; nothing is refreshed
//! that nobody asked for.

mod disk;
mod families;
mod hardware;
pub(crate) mod processes;
mod services;

use super::HostState;
use crate::sandbox::bindings::wit;
use crate::sandbox::types::CallError;
use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a reading serves: shorter than any interval of a probe, longer than the spread of a round.
const FRESH: Duration = Duration::from_millis(500);

/// Bytes of one file of procfs or sysfs: of /proc/stat on a machine with a thousand cores, some 200 KiB.
const TEXT_BYTES_MAX: u64 = 4 << 20;
/// Bytes that most of these files fit into, so that one read gets them.
const TEXT_BYTES_USUAL: usize = 8 << 10;

/// Where the machine is read.
#[derive(Clone, Debug)]
pub struct SystemSettings {
    /// Instead of `/`: `proc`, `sys` and `etc` are looked for in it. In a container: where the host's are mounted.
    pub root: PathBuf,
    /// How systemctl is called.
    pub systemctl: Vec<String>,
}

/// One number of the machine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) metric: &'static str,
    pub(crate) labels: Vec<(&'static str, String)>,
    pub(crate) value: f64,
}

/// Families of readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Family {
    Cpu,
    Memory,
    Disk,
    Network,
    Load,
    Uptime,
    Processes,
    Pressure,
    Cgroup,
    Hardware,
}

/// Readings of a family, and when they were taken.
type Snapshot = (Instant, Arc<[Reading]>);

/// Reads the machine and remembers what the next reading is compared with.
pub(crate) struct Reader {
    root: PathBuf,
    systemctl: Vec<String>,
    fresh: Mutex<HashMap<Family, Snapshot>>,
    /// /proc/stat, which three families read.
    stat: Mutex<Option<(Instant, Arc<str>)>>,
    cpu_before: Mutex<Option<families::CpuTimes>>,
    processes_before: Mutex<processes::Before>,
    /// Sensors, found at the first reading.
    components: Mutex<Option<sysinfo::Components>>,
}

impl Default for SystemSettings {
    fn default() -> Self {
        SystemSettings {
            root: "/".into(),
            systemctl: vec!["systemctl".into()],
        }
    }
}

impl Family {
    const ALL: [(&'static str, Family); 10] = [
        ("cpu", Family::Cpu),
        ("memory", Family::Memory),
        ("disk", Family::Disk),
        ("network", Family::Network),
        ("load", Family::Load),
        ("uptime", Family::Uptime),
        ("processes", Family::Processes),
        ("pressure", Family::Pressure),
        ("cgroup", Family::Cgroup),
        ("hardware", Family::Hardware),
    ];

    fn of(name: &str) -> Result<Self, CallError> {
        let found = Family::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, family)| family).ok_or_else(|| {
            let names: Vec<&str> = Family::ALL.iter().map(|(name, _)| *name).collect();
            CallError::Config(format!(
                "there is no family {name:?}: write some of {}",
                names.join(", ")
            ))
        })
    }

    /// Whether a hung device can hold it up.
    fn may_block(self) -> bool {
        matches!(self, Family::Disk | Family::Hardware)
    }
}

impl Reader {
    pub(crate) fn new(settings: SystemSettings) -> Self {
        let reader = Reader {
            root: settings.root,
            systemctl: settings.systemctl,
            fresh: Mutex::default(),
            stat: Mutex::default(),
            cpu_before: Mutex::default(),
            processes_before: Mutex::default(),
            components: Mutex::default(),
        };
        // The first reading of a ratio is since now, not since boot.
        let before = reader
            .text("proc/stat")
            .map(|stat| families::CpuTimes::parse(&stat));
        *lock(&reader.cpu_before) = before.ok();
        reader
    }

    /// A small file below the root, as text.
    fn text(&self, path: &str) -> std::io::Result<String> {
        // These files have no size: `fs::read` would ask for it, twice, and start with a small buffer.
        let mut bytes = Vec::with_capacity(TEXT_BYTES_USUAL);
        let file = std::fs::File::open(self.root.join(path))?;
        file.take(TEXT_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    /// /proc/stat as it is now, kept for [`Reader::stat_of_round`].
    fn stat_now(&self) -> std::io::Result<Arc<str>> {
        let stat: Arc<str> = self.text("proc/stat")?.into();
        *lock(&self.stat) = Some((Instant::now(), Arc::clone(&stat)));
        Ok(stat)
    }

    /// /proc/stat for what need not be compared with an earlier reading.
    fn stat_of_round(&self) -> std::io::Result<Arc<str>> {
        if let Some((at, stat)) = &*lock(&self.stat)
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(stat));
        }
        self.stat_now()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// What was read just now, if it was.
    fn fresh(&self, family: Family) -> Option<Arc<[Reading]>> {
        let fresh = lock(&self.fresh);
        let (at, readings) = fresh.get(&family)?;
        (at.elapsed() < FRESH).then(|| Arc::clone(readings))
    }

    fn read(&self, family: Family) -> std::io::Result<Arc<[Reading]>> {
        let readings: Arc<[Reading]> = match family {
            Family::Cpu => self.cpu()?,
            Family::Memory => families::memory(&self.text("proc/meminfo")?),
            Family::Disk => self.disk()?,
            Family::Network => families::network(&self.text("proc/net/dev")?),
            Family::Load => families::load(&self.text("proc/loadavg")?, self.cpus()),
            Family::Uptime => {
                families::uptime(&self.text("proc/uptime")?, self.boot_time().unwrap_or(0))
            }
            Family::Processes => self.process_counts()?,
            Family::Pressure => self.pressure(),
            Family::Cgroup => self.cgroup(),
            Family::Hardware => self.hardware(),
        }
        .into();
        lock(&self.fresh).insert(family, (Instant::now(), Arc::clone(&readings)));
        Ok(readings)
    }

    fn cpu(&self) -> std::io::Result<Vec<Reading>> {
        let now = families::CpuTimes::parse(&self.stat_now()?);
        let mut before = lock(&self.cpu_before);
        let readings = now.readings(before.as_ref());
        *before = Some(now);
        Ok(readings)
    }

    fn cpus(&self) -> usize {
        lock(&self.cpu_before)
            .as_ref()
            .map_or(1, |times| times.cores().max(1))
    }

    /// Seconds since 1970.
    fn boot_time(&self) -> Option<u64> {
        let stat = self.stat_of_round().ok()?;
        let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
        line.trim().parse().ok()
    }

    fn pressure(&self) -> Vec<Reading> {
        let mut readings = Vec::new();
        for resource in families::PRESSURES {
            // Absent on kernels without it, and where it is switched off.
            if let Ok(text) = self.text(&format!("proc/pressure/{}", resource.name)) {
                resource.read(&text, &mut readings);
            }
        }
        readings
    }

    fn cgroup(&self) -> Vec<Reading> {
        let file = |name: &str| self.text(&format!("sys/fs/cgroup/{name}")).ok();
        families::cgroup(&file)
    }
}

impl HostState {
    fn system_granted(&self) -> Result<(), CallError> {
        if self.using.settings.grants.system {
            return Ok(());
        }
        Err(self.using.denied("system", "system = true"))
    }

    async fn read_families(
        &mut self,
        names: &[String],
    ) -> Result<Vec<wit::system::Reading>, CallError> {
        self.system_granted()?;
        let mut all = Vec::new();
        for name in names {
            let family = Family::of(name)?;
            let reader = Arc::clone(&self.host.system);
            let readings = match reader.fresh(family) {
                Some(readings) => Ok(readings),
                None if family.may_block() => Self::blocking(move || reader.read(family)).await?,
                None => reader.read(family),
            };
            let readings = readings.map_err(|error| CallError::Unavailable {
                message: format!("family {name:?} cannot be read here: {error}"),
                retry_after: None,
            })?;
            all.extend(readings.iter().map(|reading| {
                wit::system::Reading {
                    metric: reading.metric.to_owned(),
                    labels: reading
                        .labels
                        .iter()
                        .map(|(key, value)| ((*key).to_owned(), value.clone()))
                        .collect(),
                    value: reading.value,
                }
            }));
        }
        Ok(all)
    }

    async fn list_processes(
        &mut self,
        name: String,
    ) -> Result<Vec<wit::system::Process>, CallError> {
        self.system_granted()?;
        let reader = Arc::clone(&self.host.system);
        let found = Self::blocking(move || reader.processes(&name)).await?;
        found.map_err(|error| CallError::Unavailable {
            message: format!("processes cannot be read here: {error}"),
            retry_after: None,
        })
    }
}

/// The name of this host as it knows itself.
fn hostname() -> String {
    let names = rustix::system::uname();
    names.nodename().to_string_lossy().into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl wit::system::Host for HostState {
    async fn hostname(&mut self) -> wasmtime::Result<String> {
        let charged = self.charge()?;
        // It cannot say that it was refused; an empty name does, and the log.
        let name = self.system_granted().map(|()| hostname());
        Ok(self.answer(charged, name)?.unwrap_or_default())
    }

    async fn read(
        &mut self,
        families: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<wit::system::Reading>, wit::types::Error>> {
        let charged = self.charge()?;
        let readings = self.read_families(&families).await;
        self.answer(charged, readings)
    }

    async fn processes(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<Vec<wit::system::Process>, wit::types::Error>> {
        let charged = self.charge()?;
        let processes = self.list_processes(name).await;
        self.answer(charged, processes)
    }

    async fn services(
        &mut self,
        pattern: String,
    ) -> wasmtime::Result<Result<Vec<wit::system::Service>, wit::types::Error>> {
        let charged = self.charge()?;
        let services = match self.system_granted() {
            Ok(()) => self.list_services(&pattern).await,
            Err(refused) => Err(refused),
        };
        self.answer(charged, services)
    }
}

/// The root that a test or a container gives may lack a file.
fn exists(path: &Path) -> bool {
    path.try_exists().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::host::tests::state;
    use crate::sandbox::types::{Grants, Kind};

    fn granted() -> Grants {
        Grants {
            system: true,
            ..Grants::default()
        }
    }

    #[tokio::test]
    async fn refusals_say_what_to_write() {
        let mut state = state(Kind::Probe, Grants::default());
        let refused = state.read_families(&["cpu".into()]).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "system is not granted: add `grant = { system = true }` to [[probe]] \"test\""
        );
    }

    #[tokio::test]
    async fn this_machine_can_be_read() {
        let mut state = state(Kind::Probe, granted());
        let names: Vec<String> = Family::ALL.iter().map(|(name, _)| (*name).into()).collect();
        let readings = state.read_families(&names).await.unwrap();
        for metric in [
            "cpu_seconds_total",
            "cpu_count",
            "memory_used_ratio",
            "load1",
            "uptime_seconds",
            "boot_time_seconds",
            "process_count",
            "network_receive_bytes_total",
        ] {
            let reading = readings.iter().find(|reading| reading.metric == metric);
            let reading = reading.unwrap_or_else(|| panic!("no {metric}"));
            assert!(
                reading.value.is_finite() && reading.value >= 0.0,
                "{reading:?}"
            );
        }
        for reading in &readings {
            assert!(
                !reading.metric.ends_with("_ratio")
                    || (0.0..=1.0).contains(&reading.value)
                    || reading.metric == "load5_per_cpu_ratio",
                "{reading:?}"
            );
        }
        let unknown = state.read_families(&["gpu".into()]).await.unwrap_err();
        assert!(
            unknown.to_string().contains("write some of cpu, memory"),
            "{unknown}"
        );
    }

    #[tokio::test]
    async fn one_reading_serves_a_round() {
        let state = state(Kind::Probe, granted());
        let reader = &state.host.system;
        let first = reader.read(Family::Load).unwrap();
        let again = reader.fresh(Family::Load).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
    }
}

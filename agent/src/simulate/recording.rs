//! What was measured once: the samples that a replay judges again.
//!
//! From the agent's own history, or from CSV: `timestamp,value`, the metric being the file's name, or
//! `timestamp,series,value`. A point takes 16 bytes, so a month of 100 series every 10 s takes 400 MiB.

use crate::store::{MetricsReader, metrics};
use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use watchfire_engine::model::{Series, WallTime, is_metric_name};
use watchfire_simulate::parse_series;

/// Bytes of one line of CSV at most: labels of a series have less.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Numbers from here on are milliseconds since 1970, below they are seconds: as seconds it would be the
/// year 5138.
const MILLISECONDS_FROM: f64 = 1e11;

/// Samples by series.
#[derive(Debug, Default)]
pub struct Recording {
    pub(super) tracks: Vec<Track>,
    /// Series that no rule reads, which were left out.
    skipped: BTreeSet<Series>,
}

/// One series.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) series: Series,
    /// Milliseconds since 1970 and values, in order of time.
    pub(super) points: Vec<(u64, f64)>,
}

/// Why samples cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file.
    #[error("cannot read {}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of it.
    #[error("{}:{line}: {message}", .path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, and what to write instead.
        message: String,
    },
    /// The agent's own history.
    #[error("the agent's own history cannot be read")]
    Store(#[from] metrics::MetricsError),
}

impl Recording {
    /// Series that are there.
    pub fn series(&self) -> usize {
        self.tracks.len()
    }

    /// Samples that are there.
    pub fn samples(&self) -> usize {
        self.tracks.iter().map(|track| track.points.len()).sum()
    }

    /// Series that were left out because no rule reads them.
    pub fn skipped(&self) -> usize {
        self.skipped.len()
    }

    /// Their metrics.
    pub fn metrics(&self) -> BTreeSet<&str> {
        let tracks = self.tracks.iter();
        tracks.map(|track| &*track.series.metric).collect()
    }

    /// A recording that was made up, for tests and measurements; `points` in order of time.
    pub fn push(&mut self, series: Series, points: Vec<(u64, f64)>) {
        self.tracks.push(Track { series, points });
    }

    /// Adds what a CSV file holds within `[from, to]` of the metrics that are `wanted`. `metric`: the name
    /// of what it holds, in the place of the file's.
    ///
    /// # Errors
    /// The file, or the first line that makes no sense.
    pub fn read_csv(
        &mut self,
        path: &Path,
        metric: Option<&str>,
        wanted: &BTreeSet<String>,
        (from, to): (u64, u64),
    ) -> Result<(), RecordingError> {
        let io = |source| RecordingError::Io {
            path: path.to_owned(),
            source,
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let of_file = metric.unwrap_or(&stem);
        let mut places: HashMap<Vec<u8>, Option<usize>> = HashMap::new();
        let mut reader = BufReader::with_capacity(1 << 20, std::fs::File::open(path).map_err(io)?);
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            let mut limited = std::io::Read::take(&mut reader, LINE_BYTES_MAX as u64);
            if limited.read_until(b'\n', &mut line).map_err(io)? == 0 {
                break;
            }
            number += 1;
            let wrong = |message: String| RecordingError::Line {
                path: path.to_owned(),
                line: number,
                message,
            };
            let text = line.trim_ascii();
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            let help = || "write timestamp,value or timestamp,series,value".to_owned();
            let comma = text.iter().position(|byte| *byte == b',');
            let comma = comma.ok_or_else(|| wrong(help()))?;
            let last = text.iter().rposition(|byte| *byte == b',').unwrap_or(comma);
            let (time, value) = (text[..comma].trim_ascii(), text[last + 1..].trim_ascii());
            let Some(at) = time_of(time) else {
                // The names of the columns.
                if number == 1 && !time.first().is_some_and(u8::is_ascii_digit) {
                    continue;
                }
                let time = String::from_utf8_lossy(time);
                return Err(wrong(format!(
                    "{time:?} is no time: write seconds or milliseconds since 1970, or 2026-01-31T08:00:00Z"
                )));
            };
            if at < from || at > to {
                continue;
            }
            let named = if last > comma {
                text[comma + 1..last].trim_ascii()
            } else {
                b""
            };
            let place = match places.get(named) {
                Some(place) => *place,
                None => {
                    let series = series_of(named, of_file, metric.is_some()).map_err(wrong)?;
                    let place = self.place(series, wanted);
                    places.insert(named.to_vec(), place);
                    place
                }
            };
            let Some(place) = place else { continue };
            let value = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
            let value =
                value.ok_or_else(|| wrong(format!("the value is no number: {}", help())))?;
            self.tracks[place].points.push((at, value));
        }
        for place in places.into_values().flatten() {
            let points = &mut self.tracks[place].points;
            if !points.is_sorted_by_key(|(at, _)| *at) {
                points.sort_by_key(|(at, _)| *at);
            }
        }
        Ok(())
    }

    /// Takes what the agent's own history in `file` holds within `[from, to]` of the metrics that are
    /// `wanted`.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn read_store(
        &mut self,
        file: &Path,
        wanted: &BTreeSet<String>,
        (from, to): (u64, u64),
    ) -> Result<(), RecordingError> {
        let reader = MetricsReader::open(file)?;
        let mut places = HashMap::new();
        for stored in reader.series()? {
            if let Some(place) = self.place(stored.series, wanted) {
                places.insert(stored.id, place);
            }
        }
        let ids: Vec<u32> = places.keys().copied().collect();
        for sample in reader.range(Some(&ids), WallTime(from), WallTime(to)) {
            let sample = sample?;
            if let Some(place) = places.get(&sample.series) {
                let points = &mut self.tracks[*place].points;
                // The wall clock may have been set back while the agent ran.
                if points.last().is_none_or(|(at, _)| *at < sample.wall.0) {
                    points.push((sample.wall.0, sample.value));
                }
            }
        }
        Ok(())
    }

    /// Where the samples of a series go; none: no rule reads it.
    fn place(&mut self, series: Series, wanted: &BTreeSet<String>) -> Option<usize> {
        if !wanted.contains(&*series.metric) {
            self.skipped.insert(series);
            return None;
        }
        let known = self.tracks.iter().position(|track| track.series == series);
        Some(known.unwrap_or_else(|| {
            self.push(series, Vec::new());
            self.tracks.len() - 1
        }))
    }
}

/// The series of a line: whole, or labels of the metric of the file, or a bare word: that metric's
/// `series` where the metric was named, else a metric.
fn series_of(named: &[u8], metric: &str, metric_is_given: bool) -> Result<Series, String> {
    let named = String::from_utf8_lossy(named);
    let inner = named.strip_prefix('"').and_then(|n| n.strip_suffix('"'));
    // As CSV quotes a quote.
    let named = inner.map_or_else(|| named.to_string(), |inner| inner.replace("\"\"", "\""));
    if named.is_empty() || named.starts_with('{') {
        return parse_series(&format!("{metric}{named}")).map_err(|error| {
            format!("{error}; --metric names what a file holds whose own name is no metric")
        });
    }
    if is_metric_name(&named) && !metric_is_given || named.contains('{') {
        return parse_series(&named);
    }
    parse_series(&format!("{metric}{{series={named:?}}}"))
}

/// Seconds or milliseconds since 1970, or a time of RFC 3339.
fn time_of(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(whole) = text.parse::<u64>() {
        let seconds = (whole as f64) < MILLISECONDS_FROM;
        return if seconds {
            whole.checked_mul(1_000)
        } else {
            Some(whole)
        };
    }
    if let Ok(number) = text.parse::<f64>() {
        let millis = if number < MILLISECONDS_FROM {
            number * 1_000.0
        } else {
            number
        };
        return (millis >= 0.0).then_some(millis.round() as u64);
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

/// Reads a time as CSV files and the command line write it, in milliseconds since 1970.
///
/// # Errors
/// It is none; for people.
pub fn read_time(text: &str) -> Result<u64, String> {
    time_of(text.as_bytes()).ok_or_else(|| {
        format!("{text:?} is no time: write 2026-01-31T08:00:00Z, or seconds since 1970")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: (u64, u64) = (0, u64::MAX);

    fn read(name: &str, text: &str, metric: Option<&str>) -> Result<Recording, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let wanted = BTreeSet::from(["cpu".to_owned(), "disk".to_owned()]);
        let mut recording = Recording::default();
        recording
            .read_csv(&path, metric, &wanted, ALL)
            .map_err(|error| error.to_string())?;
        Ok(recording)
    }

    fn shown(recording: &Recording) -> Vec<String> {
        let tracks = recording.tracks.iter();
        tracks
            .map(|track| format!("{} {:?}", track.series, track.points))
            .collect()
    }

    #[test]
    fn a_file_of_values_holds_the_metric_of_its_name() {
        let text = "timestamp,value\n1700000000,1\n1700000010.5,2.5\n1700000020000,3\n2023-11-14T22:13:50Z,4\n";
        let recording = read("cpu.csv", text, None).unwrap();
        let points = "[(1700000000000, 1.0), (1700000010500, 2.5), (1700000020000, 3.0), (1700000030000, 4.0)]";
        assert_eq!(shown(&recording), [format!("cpu {points}")]);
        let recording = read("x.csv", "20,2\n10,1\n", Some("disk")).unwrap();
        assert_eq!(
            shown(&recording),
            ["disk [(10000, 1.0), (20000, 2.0)]"],
            "sorted"
        );
    }

    #[test]
    fn a_file_of_series_names_them() {
        let text = "time,series,value\n10,cpu,1\n10,\"disk{d=\"\"a\"\",m=\"\"/\"\"}\",2\n10,disk{d=\"b\"},3\n10,{d=\"c\"},4\n10,other,5\n";
        let recording = read("disk.csv", text, None).unwrap();
        assert_eq!(
            shown(&recording),
            [
                "cpu [(10000, 1.0)]",
                "disk{d=\"a\",m=\"/\"} [(10000, 2.0)]",
                "disk{d=\"b\"} [(10000, 3.0)]",
                "disk{d=\"c\"} [(10000, 4.0)]",
            ]
        );
        assert_eq!(recording.skipped(), 1);
        let recording = read("x.csv", "10,sda,1\n", Some("disk")).unwrap();
        assert_eq!(shown(&recording), ["disk{series=\"sda\"} [(10000, 1.0)]"]);
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        for (text, words) in [
            ("10\n", "x.csv:1: write timestamp,value"),
            ("10,1\nsoon,2\n", "x.csv:2: \"soon\" is no time"),
            ("10,cpu,1\n20,cpu,much\n", "x.csv:2: the value is no number"),
            ("10,d{,1\n", "x.csv:1: "),
        ] {
            let error = read("x.csv", text, Some("cpu")).unwrap_err();
            assert!(error.contains(words), "{words} in {error}");
        }
        let error = read("a b.csv", "10,1\n", None).unwrap_err();
        assert!(error.contains("--metric"), "{error}");
    }

    #[tokio::test]
    async fn the_agents_own_history_is_read_in_its_range() {
        use crate::store::{KeepMetrics, Recorder};
        use std::time::Duration;
        use watchfire_engine::model::{Moment, Now, ProbeId};
        const BEGIN_MS: u64 = 1_700_000_000_000;
        let folder = tempfile::tempdir().unwrap();
        let now = |at: u64| Now {
            at: Moment(1_000_000 + at),
            wall: WallTime(BEGIN_MS + at),
        };
        let keep = KeepMetrics {
            samples: Duration::from_secs(86_400 * 365 * 100),
            rollups: Duration::from_secs(86_400 * 365 * 100),
            bytes_max: 1 << 30,
        };
        let history = Recorder::start(folder.path(), keep, now(0)).unwrap();
        let (cpu, other) = (parse_series("cpu").unwrap(), parse_series("other").unwrap());
        for at in [10_000, 20_000, 30_000] {
            let samples = [(&cpu, at as f64), (&other, 1.0)];
            let probe = ProbeId::new("p");
            history
                .recorder
                .record(&probe, now(at), samples.into_iter());
        }
        drop(history.recorder);
        history.done.await.unwrap();

        let wanted = BTreeSet::from(["cpu".to_owned()]);
        let mut recording = Recording::default();
        let range = (BEGIN_MS + 15_000, u64::MAX);
        recording
            .read_store(&metrics::path_in(folder.path()), &wanted, range)
            .unwrap();
        assert_eq!(
            shown(&recording),
            ["cpu [(1700000020000, 20000.0), (1700000030000, 30000.0)]"]
        );
        assert_eq!(recording.skipped(), 1);
        let nowhere = folder.path().join("nowhere");
        let error = recording.read_store(&nowhere, &wanted, range).unwrap_err();
        assert!(crate::error::chain(&error).contains("nowhere"));
    }
}

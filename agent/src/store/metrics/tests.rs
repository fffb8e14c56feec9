use super::writer::Writer;
use super::*;
use crate::config::Aggregate;
use crate::store::history::{History, Limits, Need};
use crate::store::long::Kept;
use crate::store::window::{Point, Window, aggregate};
use std::io::{Seek, SeekFrom, Write};
use watchfire_engine::model::{Labels, Moment, WallTime};

/// 2026-01-01.
const WALL: u64 = 1_767_225_600_000;

const DAY: Duration = Duration::from_secs(86_400);

fn keep() -> Keep {
    Keep {
        samples: 30 * DAY,
        rollups: 180 * DAY,
        bytes_max: 512 << 20,
    }
}

fn series(name: &str) -> Series {
    Series {
        metric: "m".into(),
        labels: Labels::new([("n", name)]).unwrap(),
    }
}

/// Moment `secs` of a timeline whose zero is [`WALL`].
fn now(secs: u64) -> Now {
    Now {
        at: Moment(secs * 1_000),
        wall: WallTime(WALL + secs * 1_000),
    }
}

struct Bed {
    temp: tempfile::TempDir,
    shared: Arc<Shared>,
}

impl Bed {
    fn new() -> Self {
        Bed {
            temp: tempfile::tempdir().unwrap(),
            shared: Arc::new(Shared {
                health: Mutex::default(),
                keep: Mutex::new(keep()),
                refused: AtomicU64::new(0),
                questions: AtomicU64::new(0),
            }),
        }
    }

    fn path(&self) -> PathBuf {
        path_in(self.temp.path())
    }

    /// A writer that was told of `at`, its file open.
    fn writer(&self, at: Now) -> Writer {
        let mut writer = Writer::new(self.path(), Arc::clone(&self.shared), at);
        writer.flush();
        writer
    }

    fn health(&self) -> MetricsHealth {
        lock(&self.shared.health).clone()
    }

    fn reader(&self) -> MetricsReader {
        MetricsReader::open(&self.path()).unwrap()
    }

    /// `(wall seconds since [`WALL`], value)` of all samples of `name`.
    fn read(&self, name: &str) -> Vec<(f64, f64)> {
        let reader = self.reader();
        let all = reader.series().unwrap();
        let id = all.iter().find(|s| s.series == series(name)).unwrap().id;
        let samples = reader.range(Some(&[id]), WallTime(0), WallTime(u64::MAX));
        samples
            .map(|sample| sample.unwrap())
            .map(|s| ((s.wall.0 as f64 - WALL as f64) / 1_000.0, s.value))
            .collect()
    }
}

fn take(writer: &mut Writer, secs: u64, samples: &[(&str, f64)]) {
    take_at(writer, now(secs), samples);
}

fn take_at(writer: &mut Writer, now: Now, samples: &[(&str, f64)]) {
    let samples = samples.iter().map(|(name, v)| (series(name), *v)).collect();
    writer.take(&ProbeId::new("p"), now, samples);
}

#[test]
fn what_was_written_is_read_in_order_of_time() {
    let bed = Bed::new();
    let mut writer = bed.writer(now(0));
    for n in 1..=1_000 {
        take(
            &mut writer,
            n * 10,
            &[("a", n as f64), ("b", (n as f64).sqrt())],
        );
    }
    writer.flush();
    let reader = bed.reader();
    let all = reader.series().unwrap();
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|one| one.probe == ProbeId::new("p")));
    let samples: Vec<StoredSample> = reader
        .range(None, WallTime(0), WallTime(u64::MAX))
        .map(Result::unwrap)
        .collect();
    assert_eq!(samples.len(), 2_000);
    assert!(samples.is_sorted_by_key(|sample| (sample.at, sample.series)));
    let expected: Vec<_> = (1..=1_000).map(|n| ((n * 10) as f64, n as f64)).collect();
    assert_eq!(bed.read("a"), expected);
    // A part of it, both ends included.
    let wall = |secs: u64| WallTime(WALL + secs * 1_000);
    let part = reader.range(Some(&[all[0].id]), wall(3_000), wall(5_000));
    assert_eq!(part.count(), 201);
    let (oldest, newest) = reader.span().unwrap().unwrap();
    assert!(oldest <= wall(10) && newest >= wall(10_000));
    assert_eq!(bed.health().samples, 2_000);
}

#[test]
fn unknown_values_are_not_shown() {
    let bed = Bed::new();
    let mut writer = bed.writer(now(0));
    for (at, value) in [(10, 1.0), (20, f64::NAN), (30, f64::NAN), (40, 2.0)] {
        take(&mut writer, at, &[("a", value)]);
    }
    writer.flush();
    assert_eq!(bed.read("a"), [(10.0, 1.0), (40.0, 2.0)]);
}

#[test]
fn a_restart_in_the_midst_of_a_chunk_goes_on_with_it() {
    let bed = Bed::new();
    let mut writer = bed.writer(now(0));
    for n in 1..=100 {
        take(&mut writer, n * 10, &[("a", n as f64)]);
    }
    // Killed: what came after the last flush, at 900 s, is lost and nothing else.
    drop(writer);
    let mut writer = bed.writer(now(1_060));
    take(&mut writer, 1_070, &[("a", 107.0)]);
    take(&mut writer, 1_080, &[("a", 108.0)]);
    writer.flush();
    let read = bed.read("a");
    let expected: Vec<f64> = (1..=90).map(f64::from).chain([107.0, 108.0]).collect();
    let values: Vec<f64> = read.iter().map(|(_, value)| *value).collect();
    assert_eq!(values, expected);
    assert_eq!(read.last(), Some(&(1_080.0, 108.0)));
    let (samples, slots): (u64, i64) = (read.len() as u64, rows(&bed, "chunk"));
    assert_eq!((samples, slots), (92, 1));
}

fn rows(bed: &Bed, table: &str) -> i64 {
    let conn = file::open_to_read(&bed.path()).unwrap();
    let sql = format!("SELECT count(*) FROM {table}");
    conn.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn time_that_begins_anew_goes_on_behind_what_is_there() {
    let bed = Bed::new();
    let mut writer = bed.writer(now(0));
    take(&mut writer, 7_200, &[("a", 1.0)]);
    writer.flush();
    drop(writer);
    // state.db was lost: the timeline starts at zero, an hour later on the wall.
    let again = |secs: u64| Now {
        at: Moment(secs * 1_000),
        wall: WallTime(WALL + (10_800 + secs) * 1_000),
    };
    let mut writer = bed.writer(again(0));
    take_at(&mut writer, again(10), &[("a", 2.0)]);
    writer.flush();
    drop(writer);
    // Lost again, and the wall clock went back by ten years.
    let back = |secs: u64| Now {
        at: Moment(secs * 1_000),
        wall: WallTime(WALL - 315_360_000_000 + secs * 1_000),
    };
    let mut writer = bed.writer(back(0));
    take_at(&mut writer, back(10), &[("a", 3.0)]);
    writer.flush();
    assert_eq!(
        bed.read("a"),
        [
            (7_200.0, 1.0),
            (10_810.0, 2.0),
            (-315_360_000.0 + 10.0, 3.0)
        ]
    );
}

#[test]
fn a_step_of_the_wall_clock_is_kept_beside_the_time() {
    let bed = Bed::new();
    let mut writer = bed.writer(now(0));
    for n in 1..=30 {
        let mut at = now(n * 10);
        if n > 10 {
            at.wall.0 += 3_600_000;
        }
        if n > 20 {
            at.wall.0 -= 7_200_000;
        }
        take_at(&mut writer, at, &[("a", n as f64)]);
    }
    writer.flush();
    let read = bed.read("a");
    assert_eq!(read.len(), 30);
    assert_eq!(
        (read[9].0, read[10].0, read[20].0),
        (100.0, 3_710.0, -3_390.0)
    );
    // Nothing is deleted for a clock that runs ahead by ten years.
    let mut at = now(310);
    at.wall.0 += 315_360_000_000;
    take_at(&mut writer, at, &[("a", 31.0)]);
    writer.flush();
    assert_eq!(bed.read("a").len(), 31);
}

#[test]
fn old_samples_go_and_so_do_series_without_any() {
    let bed = Bed::new();
    *lock(&bed.shared.keep) = Keep {
        samples: DAY,
        rollups: 3 * DAY,
        ..keep()
    };
    let mut writer = bed.writer(now(0));
    for n in 0..7 * 24 * 12 {
        let mut samples = vec![("a", n as f64)];
        if n < 12 {
            samples.push(("gone", 1.0));
        }
        take(&mut writer, n * 300, &samples);
        writer.roll_up_all();
    }
    writer.flush();
    let days = |count: f64| count * 86_400.0;
    let read = bed.read("a");
    let newest = read.last().unwrap().0;
    assert!(
        (newest - read[0].0 - days(1.0)).abs() <= 1_200.0,
        "{}",
        read[0].0
    );
    let names: Vec<_> = bed.reader().series().unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    let rolled = bed
        .reader()
        .rollups(names[0].id, WallTime(0), WallTime(u64::MAX))
        .unwrap();
    let covered = (rolled.last().unwrap().wall.0 - rolled[0].wall.0) as f64 / 1_000.0;
    assert!((days(2.5)..days(3.5)).contains(&covered), "{covered}");
}

#[test]
fn roll_ups_say_what_the_samples_said() {
    let bed = Bed::new();
    let mut writer = bed.writer(now(0));
    for n in 1..=3_000_u64 {
        let value = ((n * 37) % 101) as f64 - 50.0;
        take(&mut writer, n * 10, &[("a", value), ("b", f64::NAN)]);
        writer.roll_up_all();
    }
    writer.flush();
    let reader = bed.reader();
    let all = reader.series().unwrap();
    let a = all.iter().find(|one| one.series == series("a")).unwrap().id;
    let rollups = reader.rollups(a, WallTime(0), WallTime(u64::MAX)).unwrap();
    // WALL is the start of a row of 6 hours; the second one is not over.
    assert_eq!(rollups.len(), 72);
    for rollup in &rollups {
        let from = rollup.wall;
        let to = WallTime(from.0 + rollup::WIDTH_MS - 1);
        let samples: Vec<f64> = reader
            .range(Some(&[a]), from, to)
            .map(|sample| sample.unwrap().value)
            .collect();
        assert_eq!(rollup.count, samples.len() as f64);
        assert_eq!(rollup.sum, samples.iter().sum::<f64>());
        assert_eq!(rollup.min, samples.iter().copied().fold(f64::NAN, f64::min));
        assert_eq!(rollup.max, samples.iter().copied().fold(f64::NAN, f64::max));
    }
}

#[test]
fn the_file_stays_below_its_bound() {
    let bed = Bed::new();
    let bytes_max = 1 << 20;
    *lock(&bed.shared.keep) = Keep {
        bytes_max,
        ..keep()
    };
    let mut writer = bed.writer(now(0));
    let names: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let mut seed = 1_u64;
    for n in 0..8_640 * 2 / 10 {
        let samples: Vec<(&str, f64)> = names
            .iter()
            .map(|name| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (&**name, seed as f64)
            })
            .collect();
        take(&mut writer, n * 100, &samples);
        writer.roll_up_all();
    }
    writer.flush();
    let health = bed.health();
    assert!(health.bytes <= bytes_max, "{}", health.bytes);
    assert_eq!((health.dropped, health.degraded), (0, None));
    drop(writer);
    let size = std::fs::metadata(bed.path()).unwrap().len();
    assert!(size <= bytes_max * 5 / 4, "{size}");
    let read = bed.read("7");
    // The newest are there.
    assert_eq!(read.last().unwrap().0, 172_700.0);
    assert!(read[0].0 > 10_000.0 && read.len() > 100);
}

#[test]
fn a_file_whose_making_was_cut_off_is_made_anew() {
    for begun in ["empty", "marked"] {
        let bed = Bed::new();
        match begun {
            "empty" => std::fs::write(bed.path(), "").unwrap(),
            _ => {
                let conn = rusqlite::Connection::open(bed.path()).unwrap();
                conn.pragma_update(None, "auto_vacuum", "incremental")
                    .unwrap();
                conn.pragma_update(None, "application_id", 0x7766_696d)
                    .unwrap();
            }
        }
        let mut writer = bed.writer(now(0));
        take(&mut writer, 10, &[("a", 1.0)]);
        writer.flush();
        let health = bed.health();
        assert_eq!((health.quarantined, health.degraded), (0, None), "{begun}");
        assert!(
            !bed.temp.path().join("metrics.db.corrupt").exists(),
            "{begun}"
        );
        assert_eq!(bed.read("a"), [(10.0, 1.0)], "{begun}");
    }
}

#[test]
fn a_damaged_file_is_set_aside_and_begun_anew() {
    for damage in ["text", "header", "folder", "chunk", "missing page"] {
        let bed = Bed::new();
        let mut writer = bed.writer(now(0));
        for n in 1..=500 {
            take(
                &mut writer,
                n * 10,
                &[("a", n as f64), ("b", (n as f64).sin())],
            );
        }
        writer.flush();
        drop(writer);
        let path = bed.path();
        match damage {
            "text" => std::fs::write(&path, "no database at all").unwrap(),
            "header" => {
                let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.seek(SeekFrom::Start(60)).unwrap();
                file.write_all(&[0xff; 40]).unwrap();
            }
            "folder" => {
                std::fs::remove_file(&path).unwrap();
                std::fs::create_dir(&path).unwrap();
            }
            "chunk" => {
                let conn = rusqlite::Connection::open(&path).unwrap();
                conn.execute("UPDATE chunk SET data = x'ff00ff00'", [])
                    .unwrap();
            }
            _ => {
                let size = std::fs::metadata(&path).unwrap().len();
                let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len(size / 2).unwrap();
            }
        }
        let mut writer = bed.writer(now(5_010));
        take(&mut writer, 5_020, &[("a", 1.0), ("b", 1.0)]);
        writer.flush();
        take(&mut writer, 5_030, &[("a", 2.0), ("b", 2.0)]);
        writer.flush();
        let health = bed.health();
        assert_eq!(health.degraded, None, "{damage}");
        assert_eq!(health.quarantined, 1, "{damage}");
        let aside = bed.temp.path().join("metrics.db.corrupt");
        assert!(aside.exists(), "{damage}");
        assert_eq!(bed.read("a").last(), Some(&(5_030.0, 2.0)), "{damage}");
    }
}

#[test]
fn a_full_disk_keeps_some_drops_the_oldest_and_heals() {
    let bed = Bed::new();
    let mut writer = bed.writer(now(0));
    let mut value = 0.5_f64;
    let round = |writer: &mut Writer, n: u64, value: &mut f64| {
        let names: Vec<String> = (0..60).map(|n| n.to_string()).collect();
        let samples: Vec<_> = names
            .iter()
            .map(|name| {
                *value = (*value * 3.99) * (1.0 - *value);
                (&**name, *value)
            })
            .collect();
        take(writer, n * 10, &samples);
    };
    for n in 1..=200 {
        round(&mut writer, n, &mut value);
    }
    let full = |writer: &mut Writer| {
        let conn = writer.connection().unwrap();
        let pages: i64 = conn
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap();
        conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .unwrap();
    };
    full(&mut writer);
    let mut n = 200;
    while bed.health().degraded.is_none() {
        n += 1;
        assert!(n < 400, "it never got full");
        round(&mut writer, n, &mut value);
    }
    let reason = bed.health().degraded.unwrap();
    assert!(reason.contains("full"), "{reason}");
    assert_eq!(bed.health().dropped, 0);
    // The bound of a handle goes with the handle, so room is there again at the next flush.
    let from = n;
    while bed.health().degraded.is_some() {
        n += 1;
        assert!(n < from + 100, "it never healed");
        round(&mut writer, n, &mut value);
    }
    writer.flush();
    assert_eq!(bed.read("7").len() as u64, n);
    assert_eq!(bed.health().dropped, 0);

    // A disk that refuses for long: a folder that is gone.
    let away = bed.temp.path().with_extension("away");
    std::fs::rename(bed.temp.path(), &away).unwrap();
    writer.lose_file();
    let before = n;
    for _ in 0..6_000 {
        n += 1;
        round(&mut writer, n, &mut value);
    }
    let health = bed.health();
    assert!(health.degraded.is_some());
    // Some wait, the oldest are gone: 1 MiB of 60 series at 7 bytes a sample is an hour or less.
    assert!(health.dropped > 100_000, "{}", health.dropped);
    std::fs::rename(&away, bed.temp.path()).unwrap();
    writer.flush();
    assert_eq!(bed.health().degraded, None);
    let read = bed.read("7");
    assert_eq!(read.last().unwrap().0, (n * 10) as f64);
    assert!(read.len() as u64 > before && (read.len() as u64) < n);
    assert_eq!(health.samples, 60 * n);
}

/// Restart: a window of a day is unknown until its past is in, and then what an unbroken run would say.
#[tokio::test]
async fn long_windows_are_restored_over_a_restart() {
    use crate::sandbox::types::{Collection, Family, FamilyKind, Point as Sample};
    let temp = tempfile::tempdir().unwrap();
    let probe = ProbeId::new("p");
    let every = Duration::from_secs(60);
    let needs = || {
        [Kept::Increase, Kept::Mean, Kept::Count].map(|kept| Need {
            metric: "m".into(),
            matches: Vec::new(),
            over: DAY,
            kept,
        })
    };
    let answer = |value: f64| Collection {
        families: vec![Family {
            metric: "m".into(),
            kind: FamilyKind::Counter,
            help: "".into(),
            points: vec![Sample {
                series: series("a"),
                value,
            }],
        }],
        failures: Vec::new(),
    };
    let value_at = |n: u64| ((n * 13) % 977) as f64;
    let mut all = Vec::new();
    let mut go = |history: &mut History, recorder: &Recorder, n: u64| {
        let at = now(n * 60);
        history.expect(&probe, every);
        history.absorb(&probe, at.at, &answer(value_at(n)), &Labels::default());
        let newest = history.newest(&probe);
        recorder.record(
            &probe,
            at,
            newest.map(|(series, point)| (series, point.value)),
        );
        history.questions(|question| recorder.ask(question));
        all.push(Point {
            at: at.at,
            value: value_at(n),
        });
        at.at
    };
    let start = |at: Now| {
        let mut history = History::new(Limits::default());
        history.has_past();
        history.declare(needs());
        (history, Recorder::start(temp.path(), keep(), at).unwrap())
    };
    let aggregates = |history: &mut History, at: Moment| {
        let id = history.select("m", &[])[0];
        let window = Window {
            at,
            over: DAY,
            stale: crate::store::window::stale_after(every),
        };
        [Aggregate::Increase, Aggregate::Avg, Aggregate::Count]
            .map(|kind| (history.aggregate(id, kind, &window, &mut Vec::new()), kind))
    };

    let (mut history, mut recording) = start(now(0));
    for n in 1..=2_000 {
        go(&mut history, &recording.recorder, n);
        while let Ok(past) = recording.pasts.try_recv() {
            history.fill(past);
        }
        // Not faster than the disk, as no agent is.
        if n % 40 == 0 {
            while recording.recorder.view().health().samples < n {
                tokio::task::yield_now().await;
            }
        }
    }
    drop(recording.recorder);
    // It waits for whoever asked.
    while recording.pasts.recv().await.is_some() {}
    recording.done.await.unwrap();

    let (mut history, mut recording) = start(now(2_000 * 60 + 30));
    let at = go(&mut history, &recording.recorder, 2_001);
    for (value, kind) in aggregates(&mut history, at) {
        assert!(value.is_nan(), "{kind:?} is not known yet");
    }
    let at = go(&mut history, &recording.recorder, 2_002).max(at);
    for _ in 0..3 {
        history.fill(recording.pasts.recv().await.unwrap());
    }
    let width = DAY.as_millis() as u64 / crate::store::long::PARTS;
    let begin = (at.0 - DAY.as_millis() as u64 + width / 2) / width * width;
    let window = Window {
        at,
        over: Duration::from_millis(at.0 - begin),
        stale: crate::store::window::stale_after(every),
    };
    for (value, kind) in aggregates(&mut history, at) {
        let exact = aggregate(kind, &all, &window);
        assert!(
            (value - exact).abs() <= 1e-9 * exact.abs(),
            "{kind:?}: {value}, not {exact}"
        );
        assert!(exact > 100.0, "{kind:?}: {exact}");
    }
    drop(recording.recorder);
    recording.done.await.unwrap();
}

#[test]
fn a_reader_says_what_is_wrong() {
    let temp = tempfile::tempdir().unwrap();
    let path = path_in(temp.path());
    let error = MetricsReader::open(&path).unwrap_err().to_string();
    assert!(error.starts_with("there is no metric history"), "{error}");
    std::fs::write(&path, "text").unwrap();
    let error = MetricsReader::open(&path).unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

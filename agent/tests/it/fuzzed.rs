//! What editors, disks and templates make of a configuration: ten thousand mutations of everything under `config/`
//! through the loader, and some hundred through the reload of a running agent.

use crate::configs::{QUEUE_RULE, hook, queue_probe};
use crate::support::{Agent, Answer, Dice, Folder, Server, now, seed, wait_for};
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;
use watchfire::config::{Environment, load, render};
use watchfire::plugin::watch::QUIET;

/// Mutations through the loader alone.
const PURE: usize = 10_000;

/// Threads that share them.
const THREADS: usize = 2;

/// Bytes of a mutation at most: what repeats itself costs time and finds nothing new.
const CASE_BYTES_MAX: usize = 32 << 10;

/// Mutations through a running agent.
const LIVE: usize = 300;

/// Repeats the mutations of a failed run.
const SEED_VARIABLE: &str = "WATCHFIRE_FUZZED_SEED";

/// Bytes of a file that somebody mistook for a configuration.
const HUGE: u64 = 50 << 20;

/// Pieces of a slow editor, and the pause between two.
const PIECES: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// How often he tries. A writer that the machine stops for long looks like one that has ended.
/// Each failed try ends at its first pause.
const TRIES: usize = 100;

/// What is written in the place of values, and between lines.
const SPLICES: [&str; 24] = [
    "",
    "\"",
    "[[",
    "]\n[",
    "\n[[rule]]\n",
    " = { ",
    "'''",
    "{{secret:",
    "{{ labels.",
    "~(",
    "1e999",
    "nan",
    "-9223372036854775809",
    "99999999999999999999999999999999999999",
    "\"99999999999999999999h\"",
    "\"-1s\"",
    "1979-05-27",
    "true",
    "[]",
    "{}",
    "\u{202e}",
    "\u{feff}",
    "\x1b[31m",
    "\0",
];

/// The texts, cut into pieces of some tables: a mutation hits more of a small one, and costs less.
fn corpus() -> Vec<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folders = [top.join("config"), top.join("config/rules")];
    let mut pieces = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let text = fs::read_to_string(path).unwrap();
            // Reading packs again with each mutation of this line would cost more than all else.
            let text = text.replace("[\"host\", \"service-levels\"]", "[]");
            let tables: Vec<&str> = text.split_inclusive("\n\n").collect();
            pieces.extend(tables.chunks(2).map(<[&str]>::concat));
        }
    }
    assert!(pieces.len() > 20, "{} pieces", pieces.len());
    pieces
}

/// One mutation of a text; several of them make one case.
fn mutate(text: &mut Vec<u8>, other: &str, dice: &mut Dice) {
    let length = text.len().max(1);
    let at = dice.index(length).min(text.len());
    match dice.roll(14) {
        0 => {
            for _ in 0..=dice.roll(8) {
                let at = dice.index(length);
                if let Some(byte) = text.get_mut(at) {
                    *byte ^= 1 << dice.roll(8);
                }
            }
        }
        1 => text.truncate(at),
        2 => {
            let end = (at + dice.index(200)).min(text.len());
            text.drain(at..end);
        }
        3 => lines(
            text,
            |lines, dice| {
                let line = lines[dice.index(lines.len())].clone();
                for _ in 0..=dice.roll(3) {
                    lines.insert(dice.index(lines.len()), line.clone());
                }
            },
            dice,
        ),
        4 => lines(
            text,
            |lines, dice| {
                let (a, b) = (dice.index(lines.len()), dice.index(lines.len()));
                lines.swap(a, b);
            },
            dice,
        ),
        5 => lines(
            text,
            |lines, dice| {
                let (a, b) = (dice.index(lines.len()), dice.index(lines.len()));
                // The values of two keys change places.
                let split = |line: &[u8]| line.iter().position(|byte| *byte == b'=');
                if let (Some(x), Some(y)) = (split(&lines[a]), split(&lines[b])) {
                    let value = lines[a].split_off(x);
                    let other = if a == b {
                        value.clone()
                    } else {
                        lines[b].split_off(y)
                    };
                    lines[a].extend(other);
                    if a != b {
                        lines[b].extend(value);
                    }
                }
            },
            dice,
        ),
        6 => {
            text.splice(at..at, vec![0; 1 + dice.index(50)]);
        }
        7 => {
            let depth = 1 + dice.index(2_000);
            let brackets = dice.pick(&["[", "{ a = ", "[[", "a."]).repeat(depth);
            let nested = format!("\ndeep = {brackets}");
            text.splice(at..at, nested.into_bytes());
        }
        8 => {
            let digits = 1 + dice.index(2_000);
            text.splice(at..at, b"9".repeat(digits));
        }
        9 => {
            let from = dice.index(other.len());
            let upto = (from + dice.index(400)).min(other.len());
            let part = other.as_bytes()[from..upto].to_vec();
            text.splice(at..at, part);
        }
        10 => {
            // A value of another type or size.
            let values: Vec<usize> = (0..text.len()).filter(|at| text[*at] == b'=').collect();
            if !values.is_empty() {
                let at = *dice.pick(&values) + 1;
                let end = text[at..].iter().position(|byte| *byte == b'\n');
                let end = end.map_or(text.len(), |end| at + end);
                let value = format!(" {}", dice.pick(&SPLICES));
                text.splice(at..end, value.into_bytes());
            }
        }
        11 => {
            let end = (at + dice.index(10)).min(text.len());
            text.splice(at..end, dice.pick(&SPLICES).bytes());
        }
        12 => {
            let times = 1 + dice.index(8);
            *text = text.repeat(times);
        }
        _ => {
            let bytes: Vec<u8> = (0..dice.roll(100)).map(|_| dice.roll(256) as u8).collect();
            text.splice(at..at, bytes);
        }
    }
}

fn lines(text: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>, &mut Dice), dice: &mut Dice) {
    let mut lines: Vec<Vec<u8>> = text
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    change(&mut lines, dice);
    *text = lines.join(&b'\n');
}

/// A case: one to four mutations of a text.
fn case(text: &str, other: &str, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=dice.roll(4) {
        mutate(&mut bytes, other, dice);
    }
    bytes.truncate(CASE_BYTES_MAX);
    bytes
}

fn environment() -> Environment {
    Environment {
        cwd: "/nowhere".into(),
        hostname: "box".to_owned(),
        ..Environment::default()
    }
}

/// Loads a file. Whether it holds.
///
/// # Panics
/// If the loader does, or if what it says cannot be shown.
fn holds(path: &Path) -> bool {
    match load(Some(path), &environment()) {
        Ok(_) => true,
        Err(rejected) => {
            assert!(!rejected.mistakes.is_empty());
            let printed = render(&rejected.mistakes, false) + &rejected.to_string();
            let printable = |c: char| !c.is_control() || c == '\n';
            assert!(printed.chars().all(printable), "{printed:?}");
            false
        }
    }
}

#[test]
fn ten_thousand_mutations_end_nothing() {
    let seed = seed(SEED_VARIABLE);
    let corpus = corpus();
    let folder = tempfile::tempdir().unwrap();
    let shares: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (corpus, folder) = (&corpus, folder.path());
                scope.spawn(move || {
                    let mut dice = Dice::new(seed.wrapping_add(thread as u64));
                    let path = folder.join(format!("{thread}.toml"));
                    let (mut good, mut all) = (0, 0);
                    for number in 0..PURE / THREADS {
                        let (text, other) = (dice.pick(corpus).clone(), dice.pick(corpus).clone());
                        let bytes = case(&text, &other, &mut dice);
                        fs::write(&path, &bytes).unwrap();
                        let held = catch_unwind(AssertUnwindSafe(|| holds(&path)));
                        let held = held.unwrap_or_else(|_| {
                            let text = String::from_utf8_lossy(&bytes).into_owned();
                            panic!("seed {seed}, thread {thread}, mutation {number}:\n{text}")
                        });
                        good += usize::from(held);
                        all += 1;
                    }
                    (good, all)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let good: usize = shares.iter().map(|(good, _)| good).sum();
    let all: usize = shares.iter().map(|(_, all)| all).sum();
    println!(
        "{all} mutations of {} texts, {good} of them hold",
        corpus.len()
    );
    assert_eq!(all, PURE);
    // Neither noise nor the same text again.
    assert!(good > all / 100 && good < all / 2, "{good} hold");
}

/// What the agent logs after each look that was asked for.
const LOOKED: &str = "looked at all files";

/// An agent, its configuration file, and what it makes of it.
struct Live {
    agent: Agent,
    folder: Folder,
    looks: usize,
    generation: String,
}

impl Live {
    /// Asks for a look at the file as it is, and waits for its end. Whether anything was exchanged since the one before:
    /// an event may have been quicker.
    fn look(&mut self) -> bool {
        let pid = rustix::process::Pid::from_raw(self.agent.pid() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        let line = wait_for("the agent looks", || {
            let log = self.agent.log();
            let mut looks = log.lines().filter(|line| line.contains(LOOKED));
            looks.nth(self.looks).map(str::to_owned)
        });
        self.looks += 1;
        let generation = line.split("generation=").nth(1).unwrap();
        let generation = generation.split(' ').next().unwrap().to_owned();
        let before = std::mem::replace(&mut self.generation, generation);
        before != self.generation
    }

    /// Waits until it shows that this digest runs, and whether the file beside it is refused.
    fn shows(&self, digest: &str, refused: bool) {
        let what = format!("it shows that {digest} runs, and that a file is refused: {refused}");
        wait_for(&what, || {
            let config = self.agent.get("/api/v1/config")?;
            let as_wanted =
                config["source"]["sha256"] == digest && config["refused"].is_null() != refused;
            as_wanted.then_some(())
        });
    }

    fn put(&self, bytes: &[u8]) {
        self.put_sized(bytes, bytes.len() as u64);
    }

    /// The same, cut or filled up with zeros to a size.
    fn put_sized(&self, bytes: &[u8], size: u64) {
        let beside = self.folder.path("beside");
        fs::write(&beside, bytes).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&beside).unwrap();
        file.set_len(size).unwrap();
        fs::rename(beside, self.folder.path("watchfire.toml")).unwrap();
    }
}

/// The digest that the agent shows of a file that holds.
fn digest(path: &Path) -> Option<String> {
    let loaded = load(Some(path), &environment()).ok()?;
    Some(watchfire::plugin::hex(&loaded.config.source.digest))
}

#[test]
fn a_running_agent_changes_for_nothing_but_a_configuration_that_holds() {
    let seed = seed(SEED_VARIABLE);
    let mut dice = Dice::new(seed);
    let source = Server::start(Answer::json(r#"{"queue": 7}"#));
    let sink = Server::start(Answer::json("{}"));
    let tables = [queue_probe(&source), QUEUE_RULE.to_owned(), hook(&sink)].concat();
    let folder = Folder::new(&tables);
    let path = folder.path("watchfire.toml");
    let good = fs::read_to_string(&path).unwrap();
    // Where it lives stays: mutations of folders would make them.
    let head = good.strip_suffix(&tables).unwrap().to_owned();
    let agent = Agent::start(&folder);
    let mut live = Live {
        agent,
        folder,
        looks: 0,
        generation: String::new(),
    };
    live.look();
    let mut running = digest(&path).unwrap();
    live.shows(&running, false);

    let corpus = corpus();
    let (mut taken, mut kept) = (0, 0);
    for number in 0..LIVE {
        let other = dice.pick(&corpus).clone();
        let mut bytes = head.clone().into_bytes();
        match number {
            0 => bytes.clear(),
            1 => bytes.extend(b"# ".iter().chain(b"x".repeat(2 << 20).iter())),
            _ => bytes.extend(case(&tables, &other, &mut dice)),
        }
        let size = if number == 2 {
            HUGE
        } else {
            bytes.len() as u64
        };
        live.put_sized(&bytes, size);
        let wanted = digest(&path);
        let changed = live.look();
        match wanted {
            Some(wanted) if changed => {
                running = wanted;
                live.shows(&running, false);
                taken += 1;
            }
            // The same text as what runs.
            Some(wanted) if wanted == running => live.shows(&running, false),
            // Its mistakes, or the words of a plugin that refuses its table.
            _ => {
                let text = String::from_utf8_lossy(&bytes);
                assert!(!changed, "seed {seed}, {number}: changed by\n{text}");
                live.shows(&running, true);
                kept += 1;
            }
        }
    }
    println!("{LIVE} mutations through a running agent: {taken} taken, {kept} refused");
    assert!(taken > 0 && kept > 0);

    let in_pieces = (0..TRIES).any(|_| in_pieces(&mut live, &path, &good));
    assert!(in_pieces, "the machine stalled each time");

    // After all that it does what it is for.
    source.always(Answer::json(r#"{"queue": 250}"#));
    wait_for("the page", || {
        let mut received = sink.received().into_iter();
        received.find(|message| message.json()["alerts"][0]["rule"] == "queue-longer")
    });
    assert_eq!(live.agent.terminate(), Some(0));
}

/// Half-written in pieces: nothing in between is ever taken, and the whole is. Whether the machine let the writer
/// write without a pause that ends a file.
fn in_pieces(live: &mut Live, path: &Path, good: &str) -> bool {
    live.put(good.as_bytes());
    live.look();
    let before = digest(path).unwrap();
    live.shows(&before, false);
    let longer = format!("{good}{}", QUEUE_RULE.replace("queue-long", "queue-longer"));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .unwrap();
    let mut written = now();
    let mut pieces = longer.as_bytes().chunks(longer.len().div_ceil(PIECES));
    let without_pause = pieces.all(|piece| {
        let mut in_time = written.elapsed() < QUIET / 2;
        file.write_all(piece).unwrap();
        written = now();
        std::thread::sleep(PAUSE);
        let config = live.agent.get("/api/v1/config").unwrap();
        in_time &= written.elapsed() < QUIET / 2;
        let untouched = config["source"]["sha256"] == before && config["refused"].is_null();
        assert!(untouched || !in_time, "half of it was taken: {config}");
        in_time
    });
    drop(file);
    fs::write(path, &longer).unwrap();
    let wanted = digest(path).unwrap();
    wait_for("the whole is taken", || {
        let config = live.agent.get("/api/v1/config")?;
        (config["source"]["sha256"] == wanted).then_some(())
    });
    without_pause
}

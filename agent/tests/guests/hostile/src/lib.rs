//! Does what its table says, so that the tests of the sandbox need one component for all of it.

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};
use watchfire_plugin_sdk::prelude::*;

/// Text that terminals, browsers, line formats and readers stumble over.
const STRANGE: [&str; 6] = [
    "\u{1b}[31m<b>\"\\\n\u{202e}\0",
    "<script>alert(1)</script>",
    "two\nlines\r\n# HELP x y",
    "\"} 1\nforged{a=\"",
    "\u{202e}desrever\u{2066}",
    "\u{9b}2J\u{7f}\u{feff}`$(id)` 'x' {{ title }}",
];

struct Guest {
    deed: String,
    at: String,
}

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default, rename = "do")]
    deed: String,
    /// A URL, a path, a name or a number: what the deed is about.
    #[serde(default)]
    at: String,
}

impl Probe for Guest {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        match config.deed.as_str() {
            "refuse" => Err(Error::config("config.do: write something else")),
            "spin in configure" => spin(),
            "panic in configure" => panic!("the words of configure"),
            "exit in configure" => std::process::exit(0),
            _ => Ok(Guest {
                deed: config.deed,
                at: config.at,
            }),
        }
    }

    fn collect(&mut self) -> Result<Collection> {
        match self.deed.as_str() {
            "" => {}
            "spin" => spin(),
            "panic" => panic!("the words of the plugin"),
            "exit" => std::process::exit(3),
            "recurse" => return Ok(gauge(recurse(1) as f64)),
            "sleep" => std::thread::sleep(Duration::from_secs(3_600)),
            "allocate" => {
                let mut all = Vec::new();
                loop {
                    all.push(black_box(vec![1_u8; 1 << 20]));
                }
            }
            "fill without end" => {
                let mut all = vec![0_u8; 48 << 20];
                loop {
                    black_box(&mut all).fill(1);
                }
            }
            "fill below the budget" => {
                let mut all = vec![0_u8; 48 << 20];
                #[expect(clippy::disallowed_methods, reason = "a guest has no other clock")]
                let since = Instant::now();
                while since.elapsed() < Duration::from_millis(300) {
                    black_box(&mut all).fill(1);
                }
            }
            "call without end" => loop {
                host::state::get("key")?;
            },
            "log without end" => {
                for n in 0..5_000 {
                    host::log::info(format!("line {n}"));
                }
            }
            "tell events without end" => {
                for n in 0..5_000 {
                    host::events::emit("flood", None, &format!("event {n}"), &[("n", "x")]);
                }
            }
            "log much" => host::log::info("x".repeat(1 << 20)),
            "print" => {
                for n in 0..20_000 {
                    println!("line {n} {}", "x".repeat(100));
                }
                std::io::stdout().flush().ok();
            }
            "million" => {
                let mut family = Family::gauge("many", "Far too many");
                for n in 0..1_000_000_u32 {
                    family.push([("n", n.to_string())], 0.0);
                }
                return Ok(Collection::from(family));
            }
            "eleven thousand" => {
                let mut family = Family::gauge("many", "A little too many");
                for _ in 0..11_000 {
                    family.push::<String, String>([], 0.0);
                }
                return Ok(Collection::from(family));
            }
            "long value" => {
                let long = "x".repeat(16 << 20);
                return Ok(Collection::from(
                    Family::gauge("long", "").point([("l", long)], 0.0),
                ));
            }
            "twice" => {
                return Ok(Collection::from(
                    Family::gauge("twice", "").value(1.0).value(2.0),
                ));
            }
            "strange text" => {
                let mut family = Family::gauge("strange", STRANGE[0]);
                let values = [
                    f64::NAN,
                    f64::INFINITY,
                    f64::NEG_INFINITY,
                    -0.0,
                    1e308,
                    5e-324,
                ];
                for (text, value) in STRANGE.into_iter().zip(values) {
                    family.push([("text", text)], value);
                }
                host::log::warn(STRANGE.concat());
                host::events::emit(STRANGE[0], None, &STRANGE.concat(), &[("text", STRANGE[1])]);
                return Ok(Collection::from(family));
            }
            "count" => return count(),
            "count and panic" => {
                count()?;
                panic!("after the write");
            }
            "fail strangely" => return Err(Error::internal(STRANGE.concat())),
            "count and fail" => {
                count()?;
                return Err(Error::unavailable("after the write"));
            }
            "count and spin" => {
                count()?;
                spin();
            }
            "read system" => {
                host::system::read(&["load"])?;
            }
            "read what is not granted" => {
                host::files::read("/etc/shadow", 0, 100)?;
            }
            "run" => {
                host::commands::run("greet", &["you"], b"in")?;
            }
            "get" => {
                let response = host::http::Request::get(&self.at).send()?;
                return Ok(gauge(f64::from(response.status)));
            }
            "read" => {
                let read = host::files::read(&self.at, 0, 1 << 20)?;
                return Ok(gauge(read.bytes.len() as f64));
            }
            "connect" => drop(self.connect()?),
            "connect and forget" => {
                for n in 0..1_000 {
                    match self.connect() {
                        Ok(connection) => std::mem::forget(connection),
                        Err(error) => return Err(error.context(format!("after {n}"))),
                    }
                }
            }
            "new labels" => return self.new_labels(),
            "tell secrets" => return self.tell_secrets(),
            "look around" => {
                let seen = std::env::vars().count() + std::env::args().count();
                return Ok(gauge(seen as f64));
            }
            "static" => {
                use std::sync::atomic::{AtomicU32, Ordering};
                static CALLS: AtomicU32 = AtomicU32::new(0);
                return Ok(gauge(f64::from(CALLS.fetch_add(1, Ordering::Relaxed))));
            }
            "log and work for 100 ms" => {
                host::log::info("a line");
                work(Duration::from_millis(100));
            }
            "work for 100 ms" => work(Duration::from_millis(100)),
            other => return Err(Error::config(format!("config.do: {other:?} is nothing"))),
        }
        Ok(gauge(1.0))
    }

    fn wants() -> Vec<String> {
        vec!["system".to_owned(), "commands greet".to_owned()]
    }
}

impl Guest {
    fn connect(&self) -> Result<host::tcp::Connection> {
        let (host, port) = self.at.split_once(' ').unwrap_or((&self.at, "0"));
        let port = port.parse().unwrap_or(0);
        host::tcp::Connection::connect(host, port, None, Duration::from_secs(3_600))
    }

    /// So many series that nobody saw before, and one that is always there.
    fn new_labels(&self) -> Result<Collection> {
        let turn: u32 = host::state::load("turn")?.unwrap_or(0);
        host::state::store("turn", &(turn + 1))?;
        let mut family = Family::gauge("exploding", "New labels at every turn");
        family.push([("n", "always")], f64::from(turn));
        for n in 0..self.at.parse().unwrap_or(0_u32) {
            family.push([("n", format!("{turn} {n}"))], 0.0);
        }
        Ok(Collection::from(family))
    }

    /// Shows what it was shown, in every way there is.
    fn tell_secrets(&self) -> Result<Collection> {
        let secret = host::secrets::reveal(&self.at)?;
        host::log::emit(
            host::log::Level::Error,
            &format!("a secret: {secret}"),
            &[("secret", &secret)],
        );
        host::events::emit("secret", None, &secret, &[("secret", &secret)]);
        println!("on stdout: {secret}");
        eprintln!("on stderr: {secret}");
        // By turns a label, an error, a panic; not by a counter in `state`, which a failed call does not keep.
        match host::clock::now().millis() / 100 % 4 {
            0 => Err(Error::config(format!("in an error: {secret}"))),
            1 => Err(Error::unavailable(format!("in an error: {secret}"))),
            2 => panic!("in a panic: {secret}"),
            _ => Ok(Collection::from(
                Family::gauge("told", format!("help: {secret}")).point([("secret", &*secret)], 1.0),
            )),
        }
    }
}

fn gauge(value: f64) -> Collection {
    Collection::from(Family::gauge("hostile", "What came of it").value(value))
}

#[expect(clippy::disallowed_methods, reason = "a guest has no other clock")]
fn work(time: Duration) {
    let since = Instant::now();
    while since.elapsed() < time {
        black_box(());
    }
}

fn spin() -> ! {
    loop {
        black_box(());
    }
}

#[expect(unconditional_recursion, reason = "the stack has a bound")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1)) + depth)
}

fn count() -> Result<Collection> {
    let before: u32 = host::state::load("count")?.unwrap_or(0);
    host::state::store("count", &(before + 1))?;
    Ok(gauge(f64::from(before + 1)))
}

probe!(Guest);

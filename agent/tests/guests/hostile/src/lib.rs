//! Does what its table says, so that the tests of the sandbox need one component for all of it.

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};
use watchfire_plugin_sdk::prelude::*;

struct Guest {
    deed: String,
}

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default, rename = "do")]
    deed: String,
}

impl Probe for Guest {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        match config.deed.as_str() {
            "refuse" => Err(Error::config("config.do: write something else")),
            "spin in configure" => spin(),
            _ => Ok(Guest { deed: config.deed }),
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
            "call without end" => loop {
                host::state::get("key")?;
            },
            "log without end" => {
                for n in 0..5_000 {
                    host::log::info(format!("line {n}"));
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
                let text = "\u{1b}[31m<b>\"\\\n\u{202e}\0";
                return Ok(Collection::from(
                    Family::gauge("strange", text).point([("text", text)], f64::NAN),
                ));
            }
            "count" => return count(),
            "count and panic" => {
                count()?;
                panic!("after the write");
            }
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

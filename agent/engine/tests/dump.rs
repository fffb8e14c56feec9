//! Prints the timelines of the scenarios of a file, for comparing the engine with another model of the
//! specification: `DUMP_IN` and `DUMP_BASE` name the files, `DUMP_OUT` what is written.

#[path = "scenarios/config.rs"]
mod config;
#[path = "scenarios/driver.rs"]
mod driver;
#[path = "scenarios/judge.rs"]
mod judge;

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use toml::Table;
use toml::de::DeTable;

#[test]
fn dump() {
    let Ok(path) = std::env::var("DUMP_IN") else {
        return;
    };
    let of = |name: &str| std::env::var(name).expect(name);
    let read = |path: String| std::fs::read_to_string(path).expect("a file");
    let base: Table = read(of("DUMP_BASE")).parse().expect("TOML");
    let text = read(path);
    let parsed = DeTable::parse(&text).expect("TOML");
    let file = watchfire_simulate::read(parsed.get_ref()).expect("a file of scenarios");
    let mut out = String::new();
    std::panic::set_hook(Box::new(|_| {}));
    for test in &file.tests {
        writeln!(out, "== {}", test.id).expect("written");
        match catch_unwind(AssertUnwindSafe(|| driver::run(&base, test))) {
            Ok(outcome) => {
                for entry in outcome.timeline {
                    writeln!(out, "{entry}").expect("written");
                }
                writeln!(out, "--").expect("written");
                let own = format!("{}: ", outcome.first_rule);
                for entry in outcome.states {
                    writeln!(out, "{}", entry.to_string().replacen(&own, "", 1)).expect("written");
                }
            }
            Err(panic) => {
                let said = panic.downcast_ref::<String>().map(String::as_str);
                let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
                let said = said.unwrap_or_default().replace('\n', " ");
                writeln!(out, "0s PANIC {said}").expect("written");
            }
        }
    }
    std::fs::write(of("DUMP_OUT"), out).expect("written");
}

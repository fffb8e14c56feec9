//! Private: prints the timelines of the scenarios of a file.
#![allow(dead_code, missing_docs, unused)]
#[path = "scenarios/config.rs"]
mod config;
#[path = "scenarios/driver/mod.rs"]
mod driver;
#[path = "scenarios/judge.rs"]
mod judge;
#[path = "scenarios/parse.rs"]
mod parse;
#[path = "scenarios/print.rs"]
mod print;
#[path = "scenarios/timeline.rs"]
mod timeline;
use driver::Driver;
use std::fmt::Write;
use toml::{Table, Value};

#[test]
fn dump() {
    let Ok(path) = std::env::var("DUMP_IN") else {
        return;
    };
    let base: Table = std::fs::read_to_string(std::env::var("DUMP_BASE").unwrap())
        .unwrap()
        .parse()
        .unwrap();
    let file: Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let mut out = String::new();
    std::panic::set_hook(Box::new(|_| {}));
    for test in file["test"].as_array().unwrap() {
        let test = test.as_table().unwrap().clone();
        let id = test["id"].as_str().unwrap().to_owned();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Driver::new(&base, &test).run()
        }));
        writeln!(out, "== {id}").unwrap();
        match result {
            Ok((lines, states)) => {
                for l in lines {
                    writeln!(out, "{}s {}", l.at_secs, l.text).unwrap();
                }
                writeln!(out, "--").unwrap();
                for l in states {
                    writeln!(out, "{}s {}", l.at_secs, l.text).unwrap();
                }
            }
            Err(e) => {
                let text = e
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| e.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                writeln!(
                    out,
                    "0s PANIC {}",
                    text.unwrap_or_default().replace('\n', " ")
                )
                .unwrap();
            }
        }
    }
    std::fs::write(std::env::var("DUMP_OUT").unwrap(), out).unwrap();
}

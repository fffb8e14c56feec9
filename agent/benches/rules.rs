//! What judging rules costs, taken from outside on the real binary: 9,990 series (10,000 samples are a
//! probe's limit, and it adds some of its own), 10 threshold rules
//! over all of them, once all healthy and once with 1 % firing; beside a Prometheus (Debian's package)
//! that scrapes the same pages and evaluates the same rules.
//!
//! ```text
//! cargo bench -p watchfire --bench rules -- --seconds 30
//! cargo bench -p watchfire --bench rules -- --round
//! ```
//!
//! `--round` measures one round instead: 5,000 series, 100 rules over 50 of them each, from the end of
//! the collection to the decisions being durable.
//!
//! Counted is the CPU time of the whole process, user and system, with the rules less without: the rest
//! (scraping, history, serving) is in both. So it holds for one core, however many threads took part.

#[path = "../tests/it/support/mod.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the benchmark uses a part of what the tests share"
)]
mod support;

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::{Agent, Answer, Folder, Server, wait_for};

/// One page, one probe: what is judged together is judged in one round.
const SERIES: usize = 9_990;
/// Series of `--round`.
const ROUND_SERIES: usize = 5_000;
/// Its rules, each over the series of one rack.
const ROUND_RULES: usize = 100;
/// Its rounds: enough for a 99th percentile.
const ROUNDS: usize = 300;
/// Rules, each over all series.
const RULES: usize = 10;
/// User and system time are told in ticks of this many seconds (`USER_HZ`).
const TICK_SECS: f64 = 0.01;

/// CPU seconds and evaluations over one measurement.
struct Taken {
    cpu_secs: f64,
    /// Rounds that were judged.
    rounds: f64,
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let mut seconds = 30;
    while let Some(argument) = arguments.next() {
        if argument == "--round" {
            return one_round();
        }
        let value = arguments
            .next()
            .unwrap_or_else(|| panic!("{argument} takes a value"));
        match argument.as_str() {
            "--seconds" => seconds = value.parse().expect("a number of seconds"),
            "--binary" => support::use_binary(value.into()),
            other => panic!("there is no option {other}: --seconds, --binary"),
        }
    }
    let page = Server::start(Answer::status(404));
    for firing in [0, SERIES / 100] {
        page.always(page_of(SERIES, firing));
        println!("{SERIES} series, {RULES} rules, {firing} series firing:");
        let ours = rate(|rules| watchfire(&page, rules, seconds));
        println!("  watchfire   {ours:>12.0} evaluations a second and core");
        if !installed("prometheus") {
            println!("  prometheus  is not installed: apt-get install prometheus");
            continue;
        }
        let theirs = rate(|rules| prometheus(&page, rules, seconds));
        println!(
            "  prometheus  {theirs:>12.0}, so watchfire judges {:.1} times as many",
            ours / theirs
        );
    }
}

/// The time of each round, as the agent tells it.
fn one_round() {
    let page = Server::start(page_of(ROUND_SERIES, 0));
    let mut config = format!(
        "[[probe]]\nid = \"page\"\nplugin = \"probe-prometheus\"\nevery = \"300ms\"\ntimeout = \"250ms\"\ngrant = {{ http = [\"http://{0}\"] }}\nconfig = {{ url = \"http://{0}/metrics\" }}\n",
        page.address()
    );
    for rack in 0..ROUND_RULES {
        write!(
            config,
            "[[rule]]\nid = \"rack-{rack}\"\nmetric = \"bench_usage\"\nmatch = {{ rack = \"{rack}\" }}\nconfig = {{ above = {{ warning = 80 }} }}\n"
        )
        .expect("text grows");
    }
    let folder = Folder::new(&config);
    let agent = Agent::start(&folder);
    let mut times: Vec<f64> = Vec::new();
    let mut last = 10.0;
    while times.len() < ROUNDS {
        let (rounds, secs) = wait_for("the next round", || {
            let pipeline = agent.get("/health/events")?;
            let rounds = pipeline["rounds"]["total"].as_f64()?;
            let secs = pipeline["latency"]["last_seconds"].as_f64()?;
            (rounds > last).then_some((rounds, secs))
        });
        last = rounds;
        times.push(secs);
    }
    times.sort_by(f64::total_cmp);
    let at = |part: f64| 1e3 * times[((times.len() - 1) as f64 * part).round() as usize];
    println!(
        "one round, {ROUND_SERIES} series, {ROUND_RULES} rules: median {:.1} ms, p99 {:.1} ms, max {:.1} ms of {}",
        at(0.5),
        at(0.99),
        at(1.0),
        times.len()
    );
}

/// Evaluations a CPU second: with all rules, less without.
fn rate(measure: impl Fn(usize) -> Taken) -> f64 {
    let [with, without] = [RULES, 0].map(measure);
    let a_round = with.cpu_secs / with.rounds - without.cpu_secs / without.rounds;
    println!(
        "  ({:.1} ms of CPU a round, {:.1} ms without rules; {:.0} rounds)",
        1e3 * with.cpu_secs / with.rounds,
        1e3 * without.cpu_secs / without.rounds,
        with.rounds
    );
    (SERIES * RULES) as f64 / a_round
}

/// Half of the values are far from the limit, none is near it; `firing` are above.
fn page_of(series: usize, firing: usize) -> Answer {
    let mut body = "# TYPE bench_usage gauge\n".to_owned();
    for series in 0..series {
        let value = if series < firing { 95 } else { series % 50 };
        // The labels that a series of a host usually has: three, of some length.
        writeln!(
            body,
            "bench_usage{{instance=\"host-1:9100\",device=\"disk-{series:05}\",rack=\"{}\"}} {value}",
            series % ROUND_RULES
        )
        .expect("text grows");
    }
    Answer {
        status: 200,
        headers: "content-type: text/plain; version=0.0.4\r\n".to_owned(),
        body,
    }
}

fn watchfire(page: &Server, rules: usize, seconds: u64) -> Taken {
    let mut config =
        "[defaults]\nevery = \"2s\"\ntimeout = \"1900ms\"\n[alerting]\nmax_instances = 20_000\n"
            .to_owned();
    write!(
            config,
            "[[probe]]\nid = \"page\"\nplugin = \"probe-prometheus\"\ngrant = {{ http = [\"http://{0}\"] }}\nconfig = {{ url = \"http://{0}/metrics\" }}\n",
            page.address()
        )
        .expect("text grows");
    for rule in 0..rules {
        write!(
            config,
            "[[rule]]\nid = \"usage-{rule}\"\nmetric = \"bench_usage\"\nconfig = {{ above = {{ warning = {} }} }}\n",
            80 + rule
        )
        .expect("text grows");
    }
    let folder = Folder::new(&config);
    let agent = Agent::start(&folder);
    let rounds = || {
        let pipeline = agent.get("/health/events")?;
        pipeline["rounds"]["total"].as_f64()
    };
    // Everything was seen, compiled and planned by then.
    wait_for("some rounds", || rounds().filter(|rounds| *rounds > 5.0));
    if rules > 0 {
        let judged = agent.get("/api/v1/rules").expect("the rules");
        let instances = judged[0]["instances"].as_u64();
        assert_eq!(instances, Some((SERIES) as u64), "{judged}");
    }
    taken(agent.pid(), seconds, || rounds().expect("rounds"))
}

fn prometheus(page: &Server, rules: usize, seconds: u64) -> Taken {
    let folder = Folder::new("");
    folder.write(
        "prometheus.yml",
        &format!(
            "global: {{ scrape_interval: 2s, scrape_timeout: 1900ms, evaluation_interval: 2s }}\nrule_files: [rules.yml]\nscrape_configs:\n- job_name: bench\n  honor_labels: true\n  static_configs: [{{ targets: [\"{}\"] }}]\n",
            page.address()
        ),
    );
    let mut groups = "groups:\n- name: bench\n  rules:\n".to_owned();
    for rule in 0..rules {
        let limit = 80 + rule;
        writeln!(
            groups,
            "  - {{ alert: usage_{rule}, expr: \"bench_usage > {limit}\" }}"
        )
        .expect("text grows");
    }
    if rules == 0 {
        // A group needs a rule; this one reads nothing.
        groups.push_str("  - { alert: nothing, expr: \"vector(0) > 1\" }\n");
    }
    folder.write("rules.yml", &groups);
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let child = command("prometheus")
        .arg(format!(
            "--config.file={}",
            folder.path("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path("data").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus starts");
    let child = Killed(child);
    let rounds = || {
        let text = get(port, "/metrics")?;
        let line = text.lines().find(|line| {
            line.starts_with("prometheus_rule_group_iterations_total{") && line.contains("bench")
        })?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    wait_for("some rounds", || rounds().filter(|rounds| *rounds > 5.0));
    taken(child.0.id(), seconds, || rounds().expect("rounds"))
}

fn taken(pid: u32, seconds: u64, rounds: impl Fn() -> f64) -> Taken {
    let before = (cpu_secs(pid), rounds());
    std::thread::sleep(Duration::from_secs(seconds));
    Taken {
        cpu_secs: cpu_secs(pid) - before.0,
        rounds: rounds() - before.1,
    }
}

/// User and system time of a process.
fn cpu_secs(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let rest = stat.rsplit(") ").next().expect("fields");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) * TICK_SECS
}

/// The body of an answer; none where nobody answers yet.
fn get(port: u16, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn installed(program: &str) -> bool {
    command(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a rival is measured as people run it"
)]
fn command(program: &str) -> Command {
    Command::new(program)
}

/// Ends with its value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! The real binary is killed at random instants for a while, towards a service that errs, stalls, hangs up
//! and hangs: nothing is lost, nothing stays unresolved, and what comes twice has one id.

use crate::configs::queue_probe;
use crate::support::{
    Agent, Answer, Dice, Folder, Server, history, now, number, seed, wait_within,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long it goes on, in seconds, unless [`SECS_VARIABLE`] says otherwise, and how many kills it takes at least: on a
/// busy machine a life takes long.
const SECS: u64 = 60;
const KILLS_MIN: u32 = 12;

/// A longer run.
const SECS_VARIABLE: &str = "WATCHFIRE_SIGKILL_SECS";

/// Repeats the chances of a failed run. What the machine does between them is not repeated.
const SEED_VARIABLE: &str = "WATCHFIRE_SIGKILL_SEED";

/// For everything to be told once all is well: the longest back-off and a start on a busy machine.
const SETTLE: Duration = Duration::from_secs(90);

/// The notifier gives up on an answer after so long; the sink hangs longer.
const ATTEMPT_MS: u64 = 1_500;

/// One POST.
#[derive(Clone, Debug)]
struct Post {
    /// Its connection: the sink's threads may read a killed agent's last words after the next one's first.
    connection: usize,
    body: Value,
    /// The sink said 200 to it, or tried to.
    accepted: bool,
}

/// A service of moods.
struct Sink {
    address: SocketAddr,
    shared: Arc<SinkShared>,
}

struct SinkShared {
    posts: Mutex<Vec<Post>>,
    dice: Mutex<Dice>,
    well: AtomicBool,
    stop: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
enum Mood {
    Accepts(Duration),
    Errs(u16),
    HangsUp,
    Hangs,
}

/// What the service does next.
fn mood(dice: &mut Dice) -> Mood {
    match dice.roll(100) {
        0..=54 => Mood::Accepts(Duration::ZERO),
        55..=69 => Mood::Accepts(Duration::from_millis(50 + dice.roll(700))),
        70..=84 => Mood::Errs(503),
        85..=89 => Mood::Errs(500),
        90..=96 => Mood::HangsUp,
        _ => Mood::Hangs,
    }
}

impl Sink {
    fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(SinkShared {
            posts: Mutex::default(),
            dice: Mutex::new(Dice::new(seed)),
            well: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                let shared = accepting.clone();
                std::thread::spawn(move || {
                    // A client that was killed ends its own connection.
                    let _ = serve(connection, stream?, &shared);
                    std::io::Result::Ok(())
                });
            }
        });
        Sink { address, shared }
    }

    /// In the order in which they were sent.
    fn posts(&self) -> Vec<Post> {
        let mut posts = self.shared.posts.lock().unwrap().clone();
        posts.sort_by_key(|post| post.connection);
        posts
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(connection: usize, mut stream: TcpStream, shared: &SinkShared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(said) = line.strip_prefix("content-length:") {
            length = said.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mood = if shared.well.load(Ordering::SeqCst) {
        Mood::Accepts(Duration::ZERO)
    } else {
        mood(&mut shared.dice.lock().unwrap())
    };
    shared.posts.lock().unwrap().push(Post {
        connection,
        body: serde_json::from_slice(&body).expect("the notifier sends JSON"),
        accepted: matches!(mood, Mood::Accepts(_)),
    });
    let status = match mood {
        Mood::Accepts(after) => {
            std::thread::sleep(after);
            200
        }
        Mood::Errs(status) => status,
        Mood::HangsUp => return Ok(()),
        Mood::Hangs => {
            std::thread::sleep(Duration::from_millis(ATTEMPT_MS * 2));
            return Ok(());
        }
    };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
    stream.write_all(head.as_bytes())
}

fn configuration(sources: [&Server; 2], sink: &Sink) -> String {
    let probes = sources.iter().enumerate().map(|(at, source)| {
        let probe = queue_probe(source);
        let probe = probe.replace("\"queue\"\nplugin", &format!("\"queue{at}\"\nplugin"));
        probe.replace("queue_size", &format!("queue_size{at}"))
    });
    let rules = (0..sources.len()).map(|at| {
        format!(
            "\n[[rule]]\nid = \"queue{at}\"\nmetric = \"queue_size{at}\"\nkeep = \"0s\"\nconfig = {{ above = {{ warning = 100, critical = 200 }} }}\n"
        )
    });
    let rest = format!(
        r#"
[alerting]
flapping = false

[[notifier]]
id      = "hook"
plugin  = "notifier-webhook"
timeout = "{ATTEMPT_MS}ms"
grant   = {{ http = ["http://{address}"] }}
config  = {{ url = "http://{address}/hook" }}

[[route]]
notify     = ["hook"]
group_by   = []
group_wait = "0s"

[delivery]
first_retry = "200ms"
factor      = 1.5
max_retry   = "2s"
jitter      = 0.2
"#,
        address = sink.address
    );
    probes.chain(rules).chain([rest]).collect()
}

fn queue(length: u64) -> Answer {
    Answer::json(format!("{{\"queue\": {length}}}"))
}

/// Messages that the history says were decided upon, and whether each has ended.
fn decided(history: &[Value]) -> BTreeMap<String, (String, bool)> {
    let mut all = BTreeMap::new();
    for event in history {
        let (Some(what), Some(id)) = (event["what"].as_str(), event["id"].as_str()) else {
            continue;
        };
        let ended = match what {
            "queued" => {
                let said = format!(
                    "{} {} #{}",
                    event["reason"], event["alert"], event["episode"]
                );
                all.insert(id.to_owned(), (said, false));
                continue;
            }
            "superseded" | "dead_letter" => true,
            "delivered" => event["outcome"] == "accepted",
            _ => false,
        };
        if ended && let Some(known) = all.get_mut(id) {
            known.1 = true;
        }
    }
    all
}

/// The state of each queue's alert after its last change.
fn states(history: &[Value]) -> BTreeMap<&str, &str> {
    let changes = history.iter().filter(|event| event["what"] == "transition");
    let states =
        changes.filter_map(|event| Some((event["alert"].as_str()?, event["to"].as_str()?)));
    states
        .filter(|(alert, _)| alert.starts_with("queue"))
        .collect()
}

fn wait_for_round(agent: &Agent) {
    wait_within(SETTLE, "the first round of a life", || {
        let pipeline = agent.get("/health/events")?;
        (pipeline["rounds"]["total"].as_u64()? > 0).then_some(())
    });
}

#[test]
fn killed_again_and_again_it_loses_nothing_and_leaves_nothing_open() {
    let seed = seed(SEED_VARIABLE);
    let mut dice = Dice::new(seed);
    let sources = [Server::start(queue(7)), Server::start(queue(7))];
    let sink = Sink::start(seed ^ 1);
    let folder = Folder::new(&configuration([&sources[0], &sources[1]], &sink));

    // The first start compiles its plugins, which is not what is measured here.
    let agent = Agent::spawn(&folder);
    wait_for_round(&agent);
    agent.kill();

    let end = now() + Duration::from_secs(number(SECS_VARIABLE).unwrap_or(SECS));
    let mut kills = 1;
    while now() < end || kills < KILLS_MIN {
        let agent = Agent::spawn(&folder);
        // Most lives see some rounds; some end during the start.
        if dice.roll(10) < 8 {
            wait_for_round(&agent);
        }
        for _ in 0..=dice.roll(8) {
            let source = &sources[dice.roll(2) as usize];
            source.always(queue([7, 150, 250][dice.roll(3) as usize]));
            // Chance, not a wait for anything: the kill falls anywhere in what follows.
            std::thread::sleep(Duration::from_millis(dice.roll(400)));
        }
        agent.kill();
        kills += 1;
    }

    // All is well again, and everything gets its time.
    sources.iter().for_each(|source| source.always(queue(7)));
    sink.shared.well.store(true, Ordering::SeqCst);
    let agent = Agent::spawn(&folder);
    let history = wait_within(SETTLE, "everything is told and nothing fires", || {
        let alerts = agent.get("/api/v1/alerts")?.to_string();
        // After the alerts, and by its own word: read before them it would lack an end that came in between.
        let history = history(&agent)?;
        let open = decided(&history).values().any(|(_, ended)| !ended);
        let fires = states(&history).values().any(|state| *state != "ok");
        (!alerts.contains("queue") && !fires && !open).then_some(history)
    });
    let posts = sink.posts();
    check(&history, &posts, seed);
    let accepted = posts.iter().filter(|post| post.accepted).count();
    let ids: BTreeSet<String> = posts
        .iter()
        .map(|post| post.body["id"].to_string())
        .collect();
    println!(
        "{kills} kills; {} messages in {} attempts, {accepted} accepted; {} events",
        ids.len(),
        posts.len(),
        history.len()
    );
    assert!(ids.len() >= 8, "{} messages", ids.len());
    drop(agent);
}

fn check(history: &[Value], posts: &[Post], seed: u64) {
    let decided = decided(history);
    // What was sent stood in the history before, under its id.
    let mut contents: BTreeMap<&str, (String, String)> = BTreeMap::new();
    for post in posts {
        let id = post.body["id"].as_str().expect("an id");
        assert!(
            decided.contains_key(id),
            "seed {seed}: sent without a record: {}",
            post.body
        );
        let said = |key: &str| post.body["alerts"][0][key].to_string();
        let content = format!(
            "{} {} #{}",
            post.body["reason"],
            said("rule"),
            said("episode")
        );
        let started = said("started_at");
        let known = contents
            .entry(id)
            .or_insert_with(|| (content.clone(), started.clone()));
        assert_eq!(
            *known,
            (content, started),
            "seed {seed}: one id says one thing"
        );
    }
    // No message of one episode and reason has two ids: a fire is told once, a resolve is told once.
    let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (id, (content, _)) in &contents {
        if content.contains("fire") || content.contains("resolve") {
            ids.entry(content).or_default().insert(id);
        }
    }
    for (content, ids) in ids {
        assert_eq!(
            ids.len(),
            1,
            "seed {seed}: {content} under several ids: {ids:?}"
        );
    }
    // P1: each episode of the history was told, or a newer state of its alert was.
    let accepted: BTreeSet<&str> = posts
        .iter()
        .filter(|post| post.accepted)
        .filter_map(|post| post.body["id"].as_str())
        .collect();
    let delivered = history
        .iter()
        .filter(|event| event["outcome"] == "accepted");
    for event in delivered {
        let id = event["id"].as_str().expect("an id");
        assert!(accepted.contains(id), "seed {seed}: never came: {event}");
    }
    let mut episodes: BTreeMap<(String, u64), BTreeSet<String>> = BTreeMap::new();
    for event in history {
        let alert = event["alert"].as_str().unwrap_or_default();
        if !alert.starts_with("queue") {
            continue;
        }
        let key = (alert.to_owned(), event["episode"].as_u64().unwrap_or(0));
        let what = event["what"].as_str().unwrap_or_default();
        let told = episodes.entry(key).or_default();
        if what == "queued" {
            told.insert(event["reason"].as_str().unwrap_or_default().to_owned());
        }
        if what == "transition"
            && event["to"]
                .as_str()
                .is_some_and(|to| to.starts_with("firing"))
        {
            told.insert("fired".to_owned());
        }
    }
    let fired = episodes.iter().filter(|(_, told)| told.contains("fired"));
    let mut count = 0;
    for (episode, told) in fired {
        assert!(
            told.contains("fire"),
            "seed {seed}: nobody was to hear of {episode:?}"
        );
        assert!(
            told.contains("resolve"),
            "seed {seed}: no end of {episode:?}"
        );
        count += 1;
    }
    assert!(count >= 3, "seed {seed}: {count} episodes");
    // The last word on each alert is that it is over.
    let mut last: BTreeMap<String, &Value> = BTreeMap::new();
    for post in posts.iter().filter(|post| post.accepted) {
        last.insert(
            post.body["alerts"][0]["rule"].to_string(),
            &post.body["reason"],
        );
    }
    for (rule, reason) in last.iter().filter(|(rule, _)| rule.contains("queue")) {
        assert_eq!(*reason, "resolve", "seed {seed}: {rule}");
    }
}

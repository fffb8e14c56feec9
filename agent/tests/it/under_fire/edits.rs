//! What is done to the configuration.

use crate::support::{Agent, Dice, Folder, Server};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Pieces of a slow editor, and the pause between two.
const PIECES: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Larger than a configuration may be.
const TOO_LARGE: usize = 2 << 20;

/// One edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edit {
    /// Nothing.
    None,
    /// Other thresholds, another rule, another probe, another header of the swapped notifier: what the dice say.
    Good,
    /// The same, truncated and written in [`PIECES`] pieces.
    GoodInPieces,
    /// The same, behind a removal.
    Restored,
    /// Only a comment is another.
    Comment,
    /// A key that there is not.
    UnknownKey,
    /// The text ends within a string.
    Cut,
    /// Bytes that are no text.
    Nul,
    /// A table that its plugin refuses.
    RefusedTable,
    /// More than is read.
    TooLarge,
    /// Brackets without end.
    Deep,
}

impl Edit {
    const ALL: [Edit; 11] = [
        Edit::None,
        Edit::Good,
        Edit::GoodInPieces,
        Edit::Restored,
        Edit::Comment,
        Edit::UnknownKey,
        Edit::Cut,
        Edit::Nul,
        Edit::RefusedTable,
        Edit::TooLarge,
        Edit::Deep,
    ];
}

/// Edits the configuration of one folder.
#[derive(Debug)]
pub(super) struct Editor {
    steady: String,
    sink: String,
    dice: Dice,
    bag: Vec<Edit>,
    file: PathBuf,
    /// Everything before the tables: where the agent lives.
    head: String,
    /// Counts good edits; the summary of the rule `edited` says it.
    turn: u32,
    limit: u64,
    extra_rule: bool,
    extra_probe: bool,
    header: u64,
    /// The last good text.
    good: String,
    /// Whether the file is the last good text.
    is_good: bool,
    pub(super) last: Edit,
    /// Everything done so far.
    pub(super) shots: Vec<Edit>,
}

impl Editor {
    pub(super) fn new(steady: &Server, sink: &Server, seed: u64) -> Self {
        Editor {
            steady: steady.address().to_string(),
            sink: sink.address().to_string(),
            dice: Dice::new(seed),
            bag: Vec::new(),
            file: PathBuf::new(),
            head: String::new(),
            turn: 0,
            limit: 50,
            extra_rule: false,
            extra_probe: false,
            header: 0,
            good: String::new(),
            is_good: true,
            last: Edit::None,
            shots: Vec::new(),
        }
    }

    /// Takes up the folder whose configuration it edits.
    pub(super) fn aim(&mut self, folder: &Folder) {
        self.file = folder.path("watchfire.toml");
        self.good = fs::read_to_string(&self.file).unwrap();
        let tables = self.tables();
        self.head = self.good.strip_suffix(&tables).unwrap().to_owned();
    }

    /// One edit.
    pub(super) fn edit(&mut self) {
        if self.bag.is_empty() {
            self.bag = Edit::ALL.to_vec();
        }
        let edit = self.bag.swap_remove(self.dice.index(self.bag.len()));
        self.shots.push(edit);
        self.shoot(edit);
    }

    pub(super) fn shoot(&mut self, edit: Edit) {
        self.last = edit;
        match edit {
            Edit::None => {}
            Edit::Good => self.write_good(PIECES_OF_A_CAREFUL_EDITOR),
            Edit::GoodInPieces => self.write_good(PIECES),
            Edit::Restored => {
                fs::remove_file(&self.file).unwrap();
                std::thread::sleep(Duration::from_millis(100 + self.dice.roll(600)));
                self.write_good(1);
            }
            Edit::Comment => {
                self.good = format!("# {}\n{}", self.dice.roll(1_000_000), self.good);
                self.put(&self.good.clone());
                self.is_good = true;
            }
            Edit::UnknownKey => {
                self.bad(&format!("{}\ncolour = \"red\"\n", self.good));
            }
            Edit::Cut => {
                // Right behind the opening quote of a random string: one may be empty.
                let strings: Vec<_> = self.good.match_indices("= \"").collect();
                let (at, opening) = self.dice.pick(&strings);
                let text = self.good[..at + opening.len()].to_owned();
                self.bad(&text);
            }
            Edit::Nul => {
                let at = self.dice.index(self.good.len());
                let mut text = self.good.clone();
                text.insert(at, '\0');
                // In a comment a NUL is as wrong as anywhere.
                self.bad(&text);
            }
            Edit::RefusedTable => {
                let text = self.good.replace("above = {", "abov = {");
                self.bad(&text);
            }
            Edit::TooLarge => {
                let text = format!("{}\n#{}\n", self.good, "x".repeat(TOO_LARGE));
                self.bad(&text);
            }
            Edit::Deep => {
                let text = format!("{}\ndeep = {}\n", self.good, "[".repeat(10_000));
                self.bad(&text);
            }
        }
    }

    /// Whether the agent runs a good text, and says of a bad one that it is.
    pub(super) fn is_taken(&self, agent: &Agent) -> bool {
        let Some(config) = agent.get("/api/v1/config") else {
            return false;
        };
        let says = format!("turn {}", self.turn);
        let rules = config["rules"].as_array().into_iter().flatten();
        let serves = rules
            .filter(|rule| rule["id"] == "edited")
            .any(|rule| rule["summary"] == *says);
        // Of a bad text's predecessors the last one may have come and gone between two looks.
        match self.is_good {
            true => serves && config["refused"].is_null(),
            false => !config["refused"].is_null(),
        }
    }

    fn bad(&mut self, text: &str) {
        self.is_good = false;
        self.put(text);
    }

    /// As a careful editor does: beside it, then renamed into place.
    fn put(&self, text: &str) {
        let beside = self.file.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, &self.file).unwrap();
    }

    /// Another good text. 0 pieces: renamed into place.
    fn write_good(&mut self, pieces: usize) {
        self.turn += 1;
        // All between what is low and what is high.
        self.limit = 20 + self.dice.roll(60);
        self.extra_rule = self.dice.roll(2) == 0;
        self.extra_probe = self.dice.roll(2) == 0;
        self.header = self.dice.roll(5);
        self.good = format!("{}{}", self.head, self.tables());
        self.is_good = true;
        if pieces == PIECES_OF_A_CAREFUL_EDITOR {
            return self.put(&self.good.clone());
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.file)
            .unwrap();
        let bytes = self.good.as_bytes();
        for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
            file.write_all(piece).unwrap();
            if pieces > 1 {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// The tables as they are now.
    pub(super) fn tables(&self) -> String {
        let Editor {
            steady,
            sink,
            turn,
            limit,
            header,
            ..
        } = self;
        let extra_probe = match self.extra_probe {
            true => {
                "\n[[probe]]\nid = \"extra\"\nplugin = \"probe-host\"\nevery = \"1s\"\ntimeout = \"900ms\"\ngrant = { system = true }\nconfig = { families = [\"memory\"] }\n"
            }
            false => "",
        };
        let extra_rule = match self.extra_rule {
            true => {
                "\n[[rule]]\nid = \"extra\"\nmetric = \"fire_value\"\nconfig = { above = { warning = 1000 } }\n"
            }
            false => "",
        };
        format!(
            r#"
[alerting]
flapping = false

[[probe]]
id      = "steady"
plugin  = "probe-json"
every   = "1s"
timeout = "900ms"
grant   = {{ http = ["http://{steady}"] }}
config  = {{ url = "http://{steady}/value", samples = [{{ metric = "fire_value", pointer = "/value" }}] }}

[[probe]]
id      = "beat"
plugin  = "probe-host"
every   = "1s"
timeout = "900ms"
grant   = {{ system = true }}
config  = {{ families = ["load"] }}

[[probe]]
id      = "swapped"
plugin  = "fire-probe"
every   = "1s"
timeout = "900ms"
{extra_probe}
[[rule]]
id     = "plain"
metric = "fire_value"
for    = "2500ms"
keep   = "0s"
config = {{ above = {{ critical = 50 }} }}

[[rule]]
id     = "swapped"
plugin = "fire-rule"
metric = "fire_value"
for    = "2500ms"
keep   = "0s"
config = {{ above = {{ critical = 50 }} }}

[[rule]]
id      = "edited"
metric  = "fire_value"
for     = "2500ms"
keep    = "0s"
summary = "turn {turn}"
config  = {{ above = {{ critical = {limit} }} }}

[[rule]]
id     = "on-swapped"
metric = "example_answer"
match  = {{ letter = "a" }}
for    = "2500ms"
keep   = "0s"
config = {{ above = {{ critical = 10 }} }}
{extra_rule}
[[notifier]]
id     = "untouched"
plugin = "notifier-webhook"
grant  = {{ http = ["http://{sink}"] }}
config = {{ url = "http://{sink}/untouched" }}

[[notifier]]
id     = "swapped"
plugin = "fire-hook"
grant  = {{ http = ["http://{sink}"] }}
config = {{ url = "http://{sink}/swapped", headers = {{ x-turn = "{header}" }} }}

[[route]]
notify     = ["untouched", "swapped"]
group_by   = []
group_wait = "0s"
"#
        )
    }
}

/// Renamed into place instead of written in place.
const PIECES_OF_A_CAREFUL_EDITOR: usize = 0;

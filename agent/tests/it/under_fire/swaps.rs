//! What is done to the files of components.

use crate::support::bed::sha256_of;
use crate::support::{Dice, guests};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use watchfire::plugin::{hex, stock};

/// Pieces of a slow copy, and the pause between two.
const PIECES: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// A component without imports and exports: valid, and of no world of ours.
const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Versions that come again and are in the code cache; each third one is new and has to be compiled.
const POOL: u64 = 4;

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Another version, written over the old one: truncated, written, closed.
    InPlace,
    /// Another version, written beside and renamed into place.
    Renamed,
    /// Bytes that are nothing.
    Garbage,
    /// A part of another version.
    Truncated,
    /// A component that serves nothing here.
    WrongWorld,
    /// A component of another kind than the table wants.
    OtherTrade,
    /// Renamed to something that is no plugin, and back.
    MovedAway,
    /// Another version behind a link that is exchanged, as a Kubernetes ConfigMap does it.
    LinkSwapped,
    /// Deleted, and another version put in its place.
    Restored,
    /// Another version, copied in [`PIECES`] pieces.
    InPieces,
}

impl Kind {
    pub(super) const ALL: [Kind; 10] = [
        Kind::InPlace,
        Kind::Renamed,
        Kind::Garbage,
        Kind::Truncated,
        Kind::WrongWorld,
        Kind::OtherTrade,
        Kind::MovedAway,
        Kind::LinkSwapped,
        Kind::Restored,
        Kind::InPieces,
    ];
}

/// What the agent is to make of the last shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It serves [`Target::serving`] and refuses nothing.
    Serves,
    /// It refuses the file and goes on with a version before it.
    Refused,
}

/// One component that is shot at.
#[derive(Debug)]
pub(super) struct Target {
    /// The plugin's name.
    pub(super) name: &'static str,
    /// Version 0.
    component: Vec<u8>,
    /// A component of another kind.
    other: Vec<u8>,
    folder: PathBuf,
    dice: Dice,
    /// Counts versions.
    number: u32,
    /// Counts exchanged links.
    links: u32,
    /// Kinds that are still to come before each comes again.
    bag: Vec<Kind>,
    /// SHA-256 of the last good version that was in place, hexadecimal.
    pub(super) serving: String,
    pub(super) outcome: Outcome,
    pub(super) last: Option<Kind>,
    /// Everything done so far.
    pub(super) shots: Vec<Kind>,
    /// Different good versions that were in place.
    pub(super) versions: usize,
}

/// A probe, a rule and a notifier, each in place with its first version.
pub(super) fn targets(folder: &Path, dice: &mut Dice) -> Vec<Target> {
    let stock = |name| stock::find(name).expect("a stock plugin").bytes();
    let probe = fs::read(guests::component("example-probe")).unwrap();
    let rule = stock("rule-threshold");
    let hook = stock("notifier-webhook");
    let mut target = |name, component: &[u8], other: &[u8]| {
        let mut target = Target {
            name,
            component: component.to_vec(),
            other: other.to_vec(),
            folder: folder.to_owned(),
            dice: Dice::new(dice.roll(u64::MAX)),
            number: 0,
            links: 0,
            bag: Vec::new(),
            serving: String::new(),
            outcome: Outcome::Serves,
            last: None,
            shots: Vec::new(),
            versions: 0,
        };
        target.shoot(Kind::Renamed);
        target
    };
    vec![
        target("fire-probe", &probe, &rule),
        target("fire-rule", &rule, &hook),
        target("fire-hook", &hook, &probe),
    ]
}

impl Target {
    /// One shot.
    pub(super) fn swap(&mut self) {
        if self.bag.is_empty() {
            self.bag = Kind::ALL.to_vec();
        }
        let kind = self.bag.swap_remove(self.dice.index(self.bag.len()));
        self.shots.push(kind);
        self.shoot(kind);
    }

    pub(super) fn shoot(&mut self, kind: Kind) {
        self.last = Some(kind);
        let place = self.place();
        match kind {
            Kind::InPlace => write(&place, &self.next()),
            Kind::Renamed => {
                let beside = self.folder.join(format!(".{}.new", self.name));
                write(&beside, &self.next());
                fs::rename(beside, place).unwrap();
            }
            Kind::Garbage => {
                let length = 100 + self.dice.index(5_000);
                let bytes: Vec<u8> = (0..length).map(|_| self.dice.roll(256) as u8).collect();
                self.refused(&bytes);
            }
            Kind::Truncated => {
                let whole = self.version(self.number + 1_000_000);
                let part = whole.len() / 10 + self.dice.index(whole.len() * 8 / 10);
                self.refused(&whole[..part]);
            }
            Kind::WrongWorld => self.refused(EMPTY_COMPONENT),
            Kind::OtherTrade => self.refused(&self.other.clone()),
            Kind::MovedAway => {
                let away = place.with_extension("bak");
                fs::rename(&place, &away).unwrap();
                self.rest();
                fs::rename(away, place).unwrap();
            }
            Kind::LinkSwapped => self.swap_link(),
            Kind::Restored => {
                fs::remove_file(&place).unwrap();
                self.rest();
                write(&place, &self.next());
            }
            Kind::InPieces => {
                let bytes = self.next();
                let mut file = create(&place);
                for piece in bytes.chunks(bytes.len().div_ceil(PIECES)) {
                    file.write_all(piece).unwrap();
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn place(&self) -> PathBuf {
        self.folder.join(format!("{}.wasm", self.name))
    }

    /// Between two halves of a swap. Chance, not a wait for anything.
    fn rest(&mut self) {
        std::thread::sleep(Duration::from_millis(100 + self.dice.roll(600)));
    }

    fn refused(&mut self, bytes: &[u8]) {
        self.outcome = Outcome::Refused;
        write(&self.place(), bytes);
    }

    /// Another version, which is to serve from now on.
    fn next(&mut self) -> Vec<u8> {
        let number = match self.dice.roll(3) {
            0 => {
                self.number += 1;
                self.number
            }
            _ => 1_000 + self.dice.roll(POOL) as u32,
        };
        let bytes = self.version(number);
        let serving = hex(&sha256_of(&bytes));
        self.versions += usize::from(serving != self.serving);
        self.serving = serving;
        self.outcome = Outcome::Serves;
        bytes
    }

    /// The same component with another hash: a custom section at its end.
    fn version(&self, number: u32) -> Vec<u8> {
        let mut bytes = self.component.clone();
        bytes.extend([0, 6, 1, b'v']);
        bytes.extend(number.to_le_bytes());
        bytes
    }

    /// `NAME.wasm -> ..NAME/NAME.wasm`, `..NAME -> ..NAME-N`: only the second link is exchanged, once the first is there.
    fn swap_link(&mut self) {
        let file = format!("{}.wasm", self.name);
        let data = format!("..{}", self.name);
        let before = self.folder.join(format!("{data}-{}", self.links));
        self.links += 1;
        let now = format!("{data}-{}", self.links);
        fs::DirBuilder::new()
            .mode(0o755)
            .create(self.folder.join(&now))
            .unwrap();
        write(&self.folder.join(&now).join(&file), &self.next());
        let link = |to: &str, name: &str| {
            let beside = self.folder.join(format!(".{name}.link"));
            symlink(to, &beside).unwrap();
            fs::rename(beside, self.folder.join(name)).unwrap();
        };
        link(&now, &data);
        if !self.place().is_symlink() {
            link(&format!("{data}/{file}"), &file);
        }
        // As the kubelet does; the first time there is none.
        let _ = fs::remove_dir_all(before);
    }
}

/// Truncates, writes, closes.
fn write(path: &Path, bytes: &[u8]) {
    create(path).write_all(bytes).unwrap();
}

/// For writing, and for nobody else to write: others are refused.
fn create(path: &Path) -> fs::File {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
        .unwrap()
}

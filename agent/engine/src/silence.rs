//! Silences: what is taken in, when one ends before its time, how long an ended one is remembered.
//!
//! Whether a silence holds is a question to the wall clock alone, asked anew at every round: a step
//! of the clock ends none for good. What ends one for good is an operator, the resolve of what it
//! covered, or that there was nothing to cover.

use crate::effect::Happening;
use crate::input::{LabelTest, Silence};
use crate::model::{Labels, Moment, RuleId, Severity, WallTime};
use crate::mute::any_matches;
use crate::policy::{Policy, TextPattern};
use crate::turn::Turn;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Silences that are not over, at most. Every one of them is held against every firing alert of a
/// round; operators have tens.
pub const SILENCES_MAX: usize = 1_000;

/// Longest silence (reliability.md R57): what shall be quiet for longer is a change of the
/// configuration.
pub const LENGTH_MAX: Duration = Duration::from_secs(366 * 86_400);

/// How long a silence that is over is still shown: Alertmanager's retention, over the longest weekend.
pub const KEPT: Duration = Duration::from_secs(120 * 3_600);

/// Ended silences that are shown, at most; the oldest go first.
pub const ENDED_MAX: usize = 1_000;

/// Rules, and labels, that one silence names, at most.
const TESTS_MAX: usize = 64;

/// Longest id, owner, name and value, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// Longest reason, in bytes: a page of text.
const REASON_BYTES_MAX: usize = 4_096;

/// A silence and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptSilence {
    /// As it was given.
    #[serde(flatten)]
    pub silence: Silence,
    /// It was ended before its time.
    #[serde(default)]
    pub ended: Option<SilenceEnd>,
    /// It covered a firing alert.
    #[serde(default)]
    pub(crate) met: bool,
    /// Since when it covers none although it holds; only kept where `idle` is set.
    #[serde(default)]
    pub(crate) idle_since: Option<Moment>,
    /// The label tests, ready to use; none where one cannot be: then it covers nothing.
    #[serde(skip)]
    pub(crate) patterns: Option<Vec<TextPattern>>,
}

/// Why a silence is over before its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SilenceEnd {
    /// When.
    pub at: WallTime,
    /// For people: `by alice`, `resolved`, `idle`.
    pub why: Arc<str>,
}

/// Where a silence is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilenceStanding {
    /// It begins later.
    Pending,
    /// Its time has come; whether it holds is a question to its schedule, too.
    Active,
    /// It is over.
    Expired,
}

/// Why a silence is not taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It names nobody, or says nothing.
    Lacks(&'static str),
    /// Nothing tells which alerts it is for.
    MatchesAll,
    /// It ends before it begins.
    Backwards,
    /// It lasts longer than [`LENGTH_MAX`].
    TooLong,
    /// A text, or a list, beyond its bound.
    TooLarge(&'static str),
    /// The configuration knows no schedule of this name.
    NoSchedule(Arc<str>),
    /// Its regular expression cannot be used.
    NoRegex(Arc<str>),
    /// There are [`SILENCES_MAX`] already.
    TooMany,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Lacks(what) => write!(f, "a silence needs its {what}"),
            Refusal::MatchesAll => f.write_str("a silence names a rule or a label"),
            Refusal::Backwards => f.write_str("the silence ends before it begins"),
            Refusal::TooLong => f.write_str("a silence lasts a year at most"),
            Refusal::TooLarge(what) => write!(f, "the silence's {what} is too large"),
            Refusal::NoSchedule(id) => write!(f, "no schedule is called {id:?}"),
            Refusal::NoRegex(text) => write!(f, "{text:?} is no regular expression"),
            Refusal::TooMany => write!(f, "there are {SILENCES_MAX} silences already; end some"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Silence {
    /// Whether it can be taken in under this policy, but for the number of silences there are.
    ///
    /// # Errors
    ///
    /// What it lacks, or which bound it breaks.
    pub fn check(&self, policy: &Policy) -> Result<(), Refusal> {
        let texts = [
            ("id", &self.id, TEXT_BYTES_MAX),
            ("owner", &self.owner, TEXT_BYTES_MAX),
            ("reason", &self.reason, REASON_BYTES_MAX),
        ];
        for (what, text, max) in texts {
            if text.trim().is_empty() {
                return Err(Refusal::Lacks(what));
            }
            if text.len() > max {
                return Err(Refusal::TooLarge(what));
            }
        }
        if self.rules.is_empty() && self.labels.is_empty() {
            return Err(Refusal::MatchesAll);
        }
        if self.until <= self.from {
            return Err(Refusal::Backwards);
        }
        let length = Duration::from_millis(self.until.0 - self.from.0);
        if length > LENGTH_MAX {
            return Err(Refusal::TooLong);
        }
        if self.rules.len() > TESTS_MAX || self.rules.iter().any(|r| r.len() > TEXT_BYTES_MAX) {
            return Err(Refusal::TooLarge("list of rules"));
        }
        let long = |test: &LabelTest| test.name.len().max(test.value.len()) > TEXT_BYTES_MAX;
        if self.labels.len() > TESTS_MAX || self.labels.iter().any(long) {
            return Err(Refusal::TooLarge("list of labels"));
        }
        if let Some(id) = &self.schedule
            && policy.calendar.schedule(id).is_none()
        {
            return Err(Refusal::NoSchedule(id.clone()));
        }
        for test in &self.labels {
            if pattern(test, policy).is_none() {
                return Err(Refusal::NoRegex(test.value.clone()));
            }
        }
        Ok(())
    }

    /// Whether its time has come and is not over; its schedule is not asked.
    pub fn standing(&self, wall: WallTime) -> SilenceStanding {
        if wall < self.from {
            SilenceStanding::Pending
        } else if wall < self.until {
            SilenceStanding::Active
        } else {
            SilenceStanding::Expired
        }
    }
}

fn pattern(test: &LabelTest, policy: &Policy) -> Option<TextPattern> {
    if !test.regex {
        return Some(TextPattern::Exact(test.value.clone()));
    }
    policy.regexes.compile(&test.value)
}

impl KeptSilence {
    pub(crate) fn new(silence: Silence, policy: &Policy) -> Self {
        KeptSilence {
            patterns: silence.labels.iter().map(|t| pattern(t, policy)).collect(),
            silence,
            ended: None,
            met: false,
            idle_since: None,
        }
    }

    /// After it was read from the store.
    pub(crate) fn prepare(&mut self, policy: &Policy) {
        let labels = self.silence.labels.iter();
        self.patterns = labels.map(|test| pattern(test, policy)).collect();
    }

    /// Where it is in its life; one that was ended is over.
    pub fn standing(&self, wall: WallTime) -> SilenceStanding {
        match self.ended {
            Some(_) => SilenceStanding::Expired,
            None => self.silence.standing(wall),
        }
    }

    /// When it was or will be over.
    pub fn ends_at(&self) -> WallTime {
        let ended = self.ended.as_ref().map_or(self.silence.until, |end| end.at);
        ended.min(self.silence.until)
    }

    /// Whether it is about this alert; whether it holds is another question.
    pub(crate) fn fits(&self, rule: &RuleId, severity: Severity, labels: &Labels) -> bool {
        let Some(patterns) = &self.patterns else {
            return false;
        };
        let rules = &self.silence.rules;
        let tests = self.silence.labels.iter().zip(patterns);
        (rules.is_empty() || any_matches(rules, rule))
            && tests.into_iter().all(|(test, pattern)| {
                let value = labels.get(&test.name).unwrap_or(match &*test.name {
                    "alertname" | "rule" => rule.as_str(),
                    "severity" => severity.name(),
                    _ => "",
                });
                pattern.matches(value) != test.negated
            })
    }
}

impl Turn<'_> {
    /// Whether the silence holds now: its time, its schedule.
    pub(crate) fn holds(&self, kept: &KeptSilence) -> bool {
        let schedule = kept.silence.schedule.as_ref();
        kept.standing(self.now.wall) == SilenceStanding::Active
            && schedule.is_none_or(|id| self.is_open(id))
    }

    /// Takes a silence in, or says why not. One of the same id is replaced.
    pub(crate) fn silence(&mut self, silence: Silence) -> String {
        let id = silence.id.clone();
        let wall = self.now.wall;
        let others = self.state.silences.iter().filter(|(other, kept)| {
            **other != id && kept.standing(wall) != SilenceStanding::Expired
        });
        let room = others.count() < SILENCES_MAX;
        let refused = match silence.check(self.policy) {
            Ok(()) if room => None,
            Ok(()) => Some(Refusal::TooMany),
            Err(refusal) => Some(refusal),
        };
        if let Some(refusal) = refused {
            return format!("silence {id} refused: {refusal}");
        }
        let did = format!("silence {id}: {}", silence.reason);
        let kept = KeptSilence::new(silence, self.policy);
        self.state.silences.insert(id.clone(), kept);
        self.dirty.silences.insert(id);
        did
    }

    /// Ends a silence before its time.
    pub(crate) fn end_silence(&mut self, id: &Arc<str>, why: Arc<str>) -> bool {
        let at = self.now.wall;
        let Some(kept) = self.state.silences.get_mut(id) else {
            return false;
        };
        if kept.standing(at) == SilenceStanding::Expired {
            return false;
        }
        kept.ended = Some(SilenceEnd { at, why });
        self.dirty.silences.insert(id.clone());
        true
    }

    /// Once a round: what ends with what it covered, or with nothing to cover; and forgets what is
    /// over for long.
    pub(crate) fn tend_silences(&mut self) {
        if self.state.silences.is_empty() {
            return;
        }
        let mut ends: Vec<(Arc<str>, &'static str)> = Vec::new();
        let mut changes: Vec<(Arc<str>, bool, Option<Moment>)> = Vec::new();
        for (id, kept) in &self.state.silences {
            let silence = &kept.silence;
            let ends_by_itself = silence.on_resolve || silence.idle.is_some();
            if !ends_by_itself || kept.standing(self.now.wall) != SilenceStanding::Active {
                continue;
            }
            let holds = self.holds(kept);
            let covers = holds && self.fires_any(kept);
            let idle_since = match (holds && !covers, silence.idle, kept.idle_since) {
                (true, Some(_), None) => Some(self.now.at),
                (true, Some(_), since) => since,
                _ => None,
            };
            let idled = idle_since.map(|since| self.now.at.since(since));
            if silence.on_resolve && kept.met && holds && !covers {
                ends.push((id.clone(), "resolved"));
            } else if idled.is_some_and(|idled| silence.idle.is_some_and(|idle| idled >= idle)) {
                ends.push((id.clone(), "idle"));
            } else if covers != kept.met && covers || idle_since != kept.idle_since {
                changes.push((id.clone(), covers, idle_since));
            }
        }
        for (id, covers, idle_since) in changes {
            if let Some(kept) = self.state.silences.get_mut(&id) {
                kept.met |= covers;
                kept.idle_since = idle_since;
                self.dirty.silences.insert(id);
            }
        }
        for (id, why) in ends {
            self.end_silence(&id, why.into());
            let what = Happening::Operator {
                by: "watchfire".to_owned(),
                did: format!("silence {id} is over: {why}"),
            };
            self.event(None, what);
        }
        self.forget_silences();
    }

    fn fires_any(&self, kept: &KeptSilence) -> bool {
        self.state.rules.iter().any(|(id, rule)| {
            let live = rule.live.values().filter_map(|f| rule.alerts.get(f));
            live.filter(|alert| alert.more.as_ref().is_some_and(|more| !more.meta))
                .any(|alert| {
                    let severity = alert.standing().severity();
                    severity.is_some_and(|severity| kept.fits(id, severity, &alert.labels()))
                })
        })
    }

    /// Ended ones beyond their time or number.
    fn forget_silences(&mut self) {
        let wall = self.now.wall;
        let mut over: Vec<(WallTime, Arc<str>)> = self
            .state
            .silences
            .iter()
            .filter(|(_, kept)| kept.standing(wall) == SilenceStanding::Expired)
            .map(|(id, kept)| (kept.ends_at(), id.clone()))
            .collect();
        over.sort();
        let surplus = over.len().saturating_sub(ENDED_MAX);
        for (at, (end, id)) in over.into_iter().enumerate() {
            let age = Duration::from_millis(wall.0.saturating_sub(end.0));
            if at < surplus || age >= KEPT {
                self.state.silences.remove(&id);
                self.dirty.silences.insert(id);
            }
        }
    }
}

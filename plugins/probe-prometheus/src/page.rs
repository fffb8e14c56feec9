//! A whole page: lines sorted into families.

use std::collections::{HashMap, HashSet};

use watchfire_plugin_sdk::probe::Kind;
use watchfire_plugin_sdk::{Error, Family, Pairs, Result};

use crate::parse::{self, Comment, Fault};
use crate::relabel::Relabel;

/// Faulty lines that are told by number and reason; of the others only how many.
const FAULTS_TOLD: usize = 3;

/// Names on one page. Exporters have hundreds; a page of names alone would fill the guest's memory.
const FAMILIES_MAX: usize = 20_000;

/// Most characters of a family's help.
const HELP_MAX: usize = 300;

/// What a page gave.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Those with points.
    pub(crate) families: Vec<Family>,
    /// Samples on the page.
    pub(crate) seen: usize,
    /// Samples taken.
    pub(crate) taken: usize,
    /// Lines that could not be read.
    pub(crate) faulty: usize,
    /// The first of them: number and reason.
    pub(crate) faults: Vec<String>,
    /// Samples left out because relabelling made them the same series as another.
    pub(crate) merged: usize,
}

/// Types of both formats. Those of OpenMetrics that Prometheus does not know become gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Known(Kind),
    OpenMetricsOnly,
}

/// Where the samples of one name go.
#[derive(Clone, Copy)]
enum Place {
    Family(usize, &'static str),
    /// Not wanted, or a `_created`, which is a time and no measurement.
    Nowhere,
}

/// Reads a page. `open` = OpenMetrics. A line that is faulty is left out and told.
///
/// # Errors
/// [`Error::Rejected`] where more than `samples_max` samples would be taken, or there are too many names; [`Error::Unavailable`] where an OpenMetrics
/// page has no end, because it was cut.
pub(crate) fn read(text: &str, open: bool, relabel: &Relabel, samples_max: usize) -> Result<Page> {
    let mut reader = Reader {
        open,
        relabel,
        samples_max,
        page: Page::default(),
        types: Vec::new(),
        index: HashMap::new(),
        places: HashMap::new(),
        last: None,
        series: HashSet::new(),
    };
    let (mut labels, mut ended) = (Vec::new(), false);
    for (number, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        if line.starts_with('#') {
            match parse::comment(line) {
                Comment::Type(name, word) => reader.declare(name, word),
                Comment::Help(name, words) => reader.explain(name, words),
                Comment::Eof if open => {
                    ended = true;
                    break;
                }
                Comment::Eof | Comment::Other => {}
            }
        } else if let Err(fault) = reader.sample(line, &mut labels)? {
            reader.page.faulty += 1;
            if reader.page.faults.len() < FAULTS_TOLD {
                reader
                    .page
                    .faults
                    .push(format!("line {}: {fault}", number + 1));
            }
        }
        if reader.types.len() > FAMILIES_MAX {
            return Err(Error::rejected(format!(
                "the page has more than {FAMILIES_MAX} names of metrics, which is no page of one service"
            )));
        }
    }
    if open && !ended {
        return Err(Error::unavailable(
            "the page ends without # EOF: it was cut, or is no OpenMetrics",
        ));
    }
    let mut page = reader.page;
    page.families.retain(|family| !family.points.is_empty());
    Ok(page)
}

struct Reader<'a> {
    open: bool,
    relabel: &'a Relabel,
    samples_max: usize,
    page: Page,
    /// Of each family of the page.
    types: Vec<Type>,
    /// Families by their name on the page.
    index: HashMap<&'a str, usize>,
    places: HashMap<&'a str, Place>,
    /// The name of the line before, which mostly is that of this line.
    last: Option<(&'a str, Place)>,
    /// Filled only where relabelling can merge.
    series: HashSet<(usize, &'static str, Pairs)>,
}

impl<'a> Reader<'a> {
    /// The outer error ends the page, the inner one the line.
    fn sample(
        &mut self,
        line: &'a str,
        labels: &mut Vec<parse::Label<'a>>,
    ) -> Result<Result<(), Fault>> {
        let (name, rest) = match parse::name(line.trim_start_matches([' ', '\t'])) {
            Ok(found) => found,
            Err(fault) => return Ok(Err(fault)),
        };
        // Counted here: what is not wanted is skipped without a look at its labels.
        self.page.seen += 1;
        let Place::Family(index, suffix) = self.place(name) else {
            return Ok(Ok(()));
        };
        let value = parse::labels(rest, labels).and_then(parse::value);
        let value = match value {
            Ok(value) => value,
            Err(fault) => {
                self.page.seen -= 1;
                return Ok(Err(fault));
            }
        };
        let Some(labels) = self.relabel.labels(labels) else {
            return Ok(Ok(()));
        };
        if self.relabel.merges() && !self.series.insert((index, suffix, labels.clone())) {
            self.page.merged += 1;
            return Ok(Ok(()));
        }
        if self.page.taken == self.samples_max {
            return Err(Error::rejected(format!(
                "the page has more than the {} samples that may be taken: name those you need in include, those you do \
                 not in exclude, or raise max_samples and the plugin's limits.samples",
                self.samples_max
            )));
        }
        self.page.taken += 1;
        self.page.families[index].push_suffixed(suffix, labels, value);
        Ok(Ok(()))
    }

    fn place(&mut self, name: &'a str) -> Place {
        if let Some((_, place)) = self.last.filter(|(last, _)| *last == name) {
            return place;
        }
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => {
                let place = self.find(name);
                self.places.insert(name, place);
                place
            }
        };
        self.last = Some((name, place));
        place
    }

    /// The family of a sample: its own name, or that less a suffix which the type of the family has.
    fn find(&mut self, name: &'a str) -> Place {
        let mut kind = Kind::Untyped;
        if !self.index.contains_key(name) {
            for suffix in [
                "_total", "_bucket", "_sum", "_count", "_created", "_info", "_gsum", "_gcount",
            ] {
                let base = name.strip_suffix(suffix);
                let Some((base, index)) = base.and_then(|b| Some((b, *self.index.get(b)?))) else {
                    continue;
                };
                match (self.types[index], suffix) {
                    (Type::Known(Kind::Counter), "_total")
                    | (Type::Known(Kind::Histogram), "_bucket" | "_sum" | "_count")
                    | (Type::Known(Kind::Summary), "_sum" | "_count") => {
                        return if self.relabel.wants(name, base) {
                            Place::Family(index, suffix)
                        } else {
                            Place::Nowhere
                        };
                    }
                    (Type::Known(Kind::Counter | Kind::Histogram | Kind::Summary), "_created")
                        if self.open =>
                    {
                        return Place::Nowhere;
                    }
                    (Type::OpenMetricsOnly, _) => kind = Kind::Gauge,
                    _ => {}
                }
            }
        }
        if !self.relabel.wants(name, name) {
            return Place::Nowhere;
        }
        Place::Family(self.family(name, Type::Known(kind)), "")
    }

    /// The family called `name`, made where there is none.
    fn family(&mut self, name: &'a str, of: Type) -> usize {
        *self.index.entry(name).or_insert_with(|| {
            let kind = match of {
                Type::Known(kind) => kind,
                Type::OpenMetricsOnly => Kind::Gauge,
            };
            let metric = format!("{}{name}", self.relabel.prefix);
            self.page.families.push(Family::new(kind, metric, ""));
            self.types.push(of);
            self.types.len() - 1
        })
    }

    /// The first word on a type counts, and only before the family has samples.
    fn declare(&mut self, name: &'a str, word: &str) {
        let of = match word {
            "counter" => Type::Known(Kind::Counter),
            "gauge" => Type::Known(Kind::Gauge),
            "histogram" => Type::Known(Kind::Histogram),
            "summary" => Type::Known(Kind::Summary),
            "info" | "stateset" | "gaugehistogram" => Type::OpenMetricsOnly,
            _ => Type::Known(Kind::Untyped),
        };
        let index = self.family(name, of);
        let family = &mut self.page.families[index];
        if self.types[index] == Type::Known(Kind::Untyped) && family.points.is_empty() {
            self.types[index] = of;
            family.kind = match of {
                Type::Known(kind) => kind,
                Type::OpenMetricsOnly => Kind::Gauge,
            };
        }
    }

    fn explain(&mut self, name: &'a str, words: &str) {
        let index = self.family(name, Type::Known(Kind::Untyped));
        let help = &mut self.page.families[index].help;
        if help.is_empty() {
            *help = parse::unescape(words).chars().take(HELP_MAX).collect();
        }
    }
}

#[cfg(test)]
mod tests;

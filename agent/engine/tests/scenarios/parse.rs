//! The texts of a scenario: series names and `value@seconds` lists.

use watchfire_engine::model::Labels;

/// What a series answers at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    /// A number, NaN among them.
    Value(f64),
    /// `_`
    Absent,
    /// `E`
    Error,
}

/// One series of `[test.samples]`.
#[derive(Clone, Debug)]
pub(crate) struct Samples {
    pub(crate) metric: String,
    pub(crate) labels: Labels,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
struct Step {
    answer: Answer,
    from_secs: f64,
    growth: f64,
}

impl Samples {
    pub(crate) fn parse(series: &str, text: &str) -> Self {
        let (metric, labels) = parse_series(series);
        let steps = text.split_whitespace().map(parse_step).collect();
        Samples {
            metric,
            labels,
            steps,
        }
    }

    /// What it answers `at` seconds; absent before its first step.
    pub(crate) fn at(&self, at: f64) -> Answer {
        let step = self.steps.iter().rev().find(|step| step.from_secs <= at);
        match step {
            None => Answer::Absent,
            Some(step) => match step.answer {
                Answer::Value(value) => Answer::Value(value + step.growth * (at - step.from_secs)),
                other => other,
            },
        }
    }
}

fn parse_step(text: &str) -> Step {
    let (value, when) = text.split_once('@').expect("value@seconds");
    let (from, growth) = match when.find(['+', '-']) {
        Some(sign) => when.split_at(sign),
        None => (when, "0"),
    };
    let answer = match value {
        "_" => Answer::Absent,
        "E" => Answer::Error,
        number => Answer::Value(number.parse().expect("a number")),
    };
    Step {
        answer,
        from_secs: from.parse().expect("seconds"),
        growth: growth.parse().expect("growth a second"),
    }
}

/// `disk{d="0",m="/"}`; the values of scenarios hold no quotes or commas.
fn parse_series(text: &str) -> (String, Labels) {
    let Some((metric, labels)) = text.split_once('{') else {
        return (text.to_owned(), Labels::default());
    };
    let pairs = labels.trim_end_matches('}').split(',').map(|pair| {
        let (key, value) = pair.split_once('=').expect("label=\"value\"");
        (key, value.trim_matches('"'))
    });
    (metric.to_owned(), Labels::new(pairs).expect("labels"))
}

#[test]
fn samples_hold_until_the_next_and_grow() {
    let samples = Samples::parse("disk{d=\"0\"}", "50@0 85@20+0.5 _@30 E@40 NaN@50");
    assert_eq!(samples.labels.get("d"), Some("0"));
    assert_eq!(samples.at(19.0), Answer::Value(50.0));
    assert_eq!(samples.at(24.0), Answer::Value(87.0));
    assert_eq!(samples.at(30.0), Answer::Absent);
    assert_eq!(samples.at(49.0), Answer::Error);
    assert!(matches!(samples.at(50.0), Answer::Value(value) if value.is_nan()));
}

//! The four ways to learn what is usual. Each is a value that takes numbers, tells a level and fits into the memory.

mod moving;
mod samples;
mod weekly;

use std::time::Duration;

pub(crate) use moving::Moving;
pub(crate) use samples::Samples;
pub(crate) use weekly::Weekly;

/// Fewer numbers than these say nothing about what is usual.
const NUMBERS_MIN: usize = 8;

/// What is usual now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Level {
    /// The baseline itself.
    pub(crate) center: f64,
    /// How far numbers usually are from it: one standard deviation, or what stands for it.
    pub(crate) spread: f64,
}

/// How it is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    /// Mean and standard deviation.
    Mean,
    /// Median, and median distance from it.
    Mad,
    /// Exponentially weighted mean and deviation.
    Ewma,
    /// One mean and deviation for each hour of the week.
    Seasonal,
}

/// A method and the length of its history: what is remembered under one shape means nothing under another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) method: Method,
    pub(crate) history: Duration,
}

impl Shape {
    pub(crate) fn history_ms(self) -> u64 {
        u64::try_from(self.history.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What was learnt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Learnt {
    Samples(Samples),
    Moving(Moving),
    Weekly(Weekly),
}

impl Learnt {
    /// Nothing yet.
    pub(crate) fn new(shape: Shape) -> Self {
        match shape.method {
            Method::Mean => Learnt::Samples(Samples::new(shape.history_ms(), false)),
            Method::Mad => Learnt::Samples(Samples::new(shape.history_ms(), true)),
            Method::Ewma => Learnt::Moving(Moving::new(shape.history_ms())),
            Method::Seasonal => Learnt::Weekly(Weekly::new(shape.history_ms())),
        }
    }

    /// Takes a finite number; `now` in milliseconds since 1970.
    pub(crate) fn learn(&mut self, now: u64, value: f64) {
        match self {
            Learnt::Samples(samples) => samples.learn(now, value),
            Learnt::Moving(moving) => moving.learn(now, value),
            Learnt::Weekly(weekly) => weekly.learn(now, value),
        }
    }

    /// What is usual at `now`; none: too little is known.
    pub(crate) fn level(&self, now: u64) -> Option<Level> {
        let level = match self {
            Learnt::Samples(samples) => samples.level(),
            Learnt::Moving(moving) => moving.level(),
            Learnt::Weekly(weekly) => weekly.level(now),
        };
        // Numbers near the end of the range overflow in a square: such a level says nothing.
        level.filter(|level| level.center.is_finite() && level.spread.is_finite())
    }

    /// Adds itself to the memory.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Learnt::Samples(samples) => samples.encode(into),
            Learnt::Moving(moving) => moving.encode(into),
            Learnt::Weekly(weekly) => weekly.encode(into),
        }
    }

    /// Reads what [`Learnt::encode`] wrote for this shape; none: these bytes are something else.
    pub(crate) fn decode(bytes: &[u8], shape: Shape) -> Option<Self> {
        let mut learnt = Learnt::new(shape);
        let good = match &mut learnt {
            Learnt::Samples(samples) => samples.decode(bytes),
            Learnt::Moving(moving) => moving.decode(bytes),
            Learnt::Weekly(weekly) => weekly.decode(bytes),
        };
        good.map(|()| learnt)
    }
}

/// Mean and variance of a stream that forgets: the newest number weighs `weight`.
fn blend(mean: &mut f64, variance: &mut f64, value: f64, weight: f64) {
    let distance = value - *mean;
    *mean += weight * distance;
    *variance = (1.0 - weight) * (*variance + weight * distance * distance);
}

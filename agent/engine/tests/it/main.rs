//! The engine from outside: fed by hand, on random scenarios, in the world of `watchfire test`, against the
//! originals. One binary, so that a change of the engine costs one build.

mod alertmanager;
mod attempts;
mod bounds;
mod by_hand;
mod combined;
mod common;
mod corners;
mod deadman;
mod doubt;
mod fallback;
mod hearers;
mod hours;
mod known;
mod lost;
mod messages;
mod properties;
mod quarantine;
mod record;
mod scenarios;
mod silences;
mod steps;
mod together;
mod values;
mod withheld;
mod written;

//! Configuration: files to [`Config`], with all mistakes found at once.
//!
//! ```text
//!   files --read--> tables with places --raw--> what is written --resolve--> Config --warn--> doubts
//!              \________________________________________/
//!                  every mistake, with file:line:column and what to write instead
//! ```
//!
//! Nothing here starts, opens or changes anything but the files it reads. A plugin that a table
//! names need not exist; a rule, notifier, secret or command must.

mod calendar;
mod diff;
mod disk;
mod environment;
mod file;
mod finding;
mod include;
mod known;
mod layers;
mod load;
mod lock;
mod model;
mod places;
mod raw;
mod read;
mod resolve;
mod syntax;
#[cfg(test)]
mod tests;
mod warn;

pub use diff::{Changed, Changes, diff};
pub use environment::Environment;
pub use finding::{Finding, Level, render};
pub use layers::{Document, Layer, from_layers};
pub use load::{Loaded, Rejected, data_dir_of_broken, from_texts, load, summary};
pub use lock::{LOCK_FILE, Lock, Locked, PluginRequest};
pub use model::*;
pub use places::Places;
pub use read::Join;
pub(crate) use read::nearest;

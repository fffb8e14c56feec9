//! Configuration: files to [`Config`], with all mistakes found at once.
//!
//! ```text
//!   files --raw--> tables with spans --resolve--> Config | every mistake with file:line:column
//! ```

mod model;

pub use model::*;

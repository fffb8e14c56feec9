//! Tests of the whole way from text to configuration.

mod defaults;
mod fuzz;
mod hours;
mod lock;
mod mistakes;
mod reload;
mod shipped;
mod slo;
mod warnings;

use super::{Environment, Finding, Loaded, from_texts, render};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Surroundings that do not depend on the machine.
pub(super) fn environment() -> Environment {
    Environment {
        cwd: "/nowhere".into(),
        hostname: "box".to_owned(),
        root: false,
        data_dir_override: None,
        variables: BTreeMap::from([("HOME".to_owned(), PathBuf::from("/home/me"))]),
    }
}

/// Loads one text as `/etc/wf/w.toml`.
pub(super) fn load_text(text: &str) -> Result<Loaded, Vec<Finding>> {
    let texts = [(PathBuf::from("/etc/wf/w.toml"), text.into())];
    from_texts(&texts, &environment()).map_err(|rejected| rejected.mistakes)
}

/// Loads one text that must hold.
pub(super) fn good(text: &str) -> Loaded {
    match load_text(text) {
        Ok(loaded) => loaded,
        Err(mistakes) => panic!("refused:\n{}", render(&mistakes, false)),
    }
}

/// `LINE:COLUMN message | help` for each finding.
pub(super) fn lines(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|f| {
            let help = f.help.as_deref().unwrap_or("");
            format!("{}:{} {} | {help}", f.line, f.column, f.message)
        })
        .collect()
}

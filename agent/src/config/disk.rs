//! Reads texts from the disk, with everything that can be wrong with a file as a whole.

use super::finding::Finding;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Bytes of one file at most. A thousand rules take a third of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads one file of configuration, with everything that can be wrong with it as a whole.
pub(super) fn read_file(path: &Path) -> Result<Arc<str>, Box<Finding>> {
    read_text(
        path,
        FILE_BYTES_MAX,
        "split it and include the parts: [agent] include = [\"conf.d/*.toml\"]",
    )
}

/// Refuses a file without a word in it. It would hold, and take every probe and rule away; what empties a file is
/// an editor that died, a full disk or a template without values.
pub(super) fn not_blank(path: &Path, text: Arc<str>) -> Result<Arc<str>, Box<Finding>> {
    if !text.trim().is_empty() {
        return Ok(text);
    }
    let help = "write what to monitor, or one comment where the defaults are wanted";
    Err(Finding::of_file(path, "the file is empty", help))
}

/// Reads a text of at most `bytes_max`; `help` says what to do with a larger one.
pub(super) fn read_text(path: &Path, bytes_max: u64, help: &str) -> Result<Arc<str>, Box<Finding>> {
    let wrong = |message: &str, help: &str| Finding::of_file(path, message, help);
    let failed = |error: std::io::Error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "check the path; without --config watchfire looks for one itself"
            }
            std::io::ErrorKind::PermissionDenied => {
                "make it readable for the user that watchfire runs as"
            }
            _ => "",
        };
        wrong(&format!("cannot read the file: {error}"), help)
    };
    // Asked before opening: opening a FIFO would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(wrong("is no regular file", "name a TOML file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        let mebibytes = bytes_max >> 20;
        return Err(wrong(&format!("is larger than {mebibytes} MiB"), help));
    }
    let place = |at: usize| {
        let line = bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
        let start = bytes[..at]
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |p| p + 1);
        (
            line,
            String::from_utf8_lossy(&bytes[start..at]).chars().count() + 1,
        )
    };
    let bad = match std::str::from_utf8(&bytes) {
        Err(error) => Some((
            error.valid_up_to(),
            "holds bytes that are not UTF-8",
            "save it as UTF-8",
        )),
        Ok(_) => bytes.iter().position(|b| *b == 0).map(|at| {
            (
                at,
                "holds a NUL byte",
                "write the file anew; it was probably cut off by a crash",
            )
        }),
    };
    if let Some((at, message, help)) = bad {
        let (line, column) = place(at);
        let mut finding = wrong(message, help);
        (finding.line, finding.column) = (line, column);
        return Err(finding);
    }
    Ok(String::from_utf8(bytes).unwrap_or_default().into())
}

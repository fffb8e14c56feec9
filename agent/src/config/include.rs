//! `include = ["conf.d/*.toml"]`: which files a pattern names.

use std::path::{Path, PathBuf};

/// Files that one pattern may name; more is a mistake in the pattern.
const FILES_MAX: usize = 1_000;

/// The files of a pattern, by name, and the folder in which new ones would appear.
pub(super) struct Expanded {
    pub(super) folder: PathBuf,
    pub(super) files: Vec<PathBuf>,
}

/// Why a pattern names nothing usable.
#[derive(Debug, thiserror::Error)]
pub(super) enum IncludeError {
    #[error("has a wildcard in a folder's name")]
    WildcardInFolder,
    #[error("names no file")]
    NoFile,
    #[error("names more than {FILES_MAX} files")]
    TooMany,
    #[error("cannot be followed: {0}")]
    Unreadable(std::io::Error),
}

impl IncludeError {
    /// What to write instead.
    pub(super) fn help(&self) -> &'static str {
        match self {
            IncludeError::WildcardInFolder => {
                "`*` and `?` can only stand in the last part: \"conf.d/*.toml\""
            }
            IncludeError::NoFile => "write \"conf.d/*.toml\" or the path of a file",
            IncludeError::TooMany => "name a narrower pattern",
            IncludeError::Unreadable(_) => "make the folder readable, or remove it from include",
        }
    }
}

/// Expands one pattern relative to `base`. A folder that does not exist holds no files; a file
/// named without wildcard is named whether it exists or not.
pub(super) fn expand(base: &Path, pattern: &str) -> Result<Expanded, IncludeError> {
    let whole = base.join(pattern);
    let (Some(folder), Some(name)) = (whole.parent(), whole.file_name().and_then(|n| n.to_str()))
    else {
        return Err(IncludeError::NoFile);
    };
    if pattern.ends_with('/') {
        return Err(IncludeError::NoFile);
    }
    let written = Path::new(pattern).parent().unwrap_or(Path::new(""));
    if written.to_string_lossy().contains(['*', '?']) {
        return Err(IncludeError::WildcardInFolder);
    }
    let mut files = Vec::new();
    if !name.contains(['*', '?']) {
        files.push(whole.clone());
    } else {
        match std::fs::read_dir(folder) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry.map_err(IncludeError::Unreadable)?;
                    let found = entry.file_name();
                    let Some(found) = found.to_str() else {
                        continue;
                    };
                    if matches(name, found) && entry.path().is_file() {
                        files.push(entry.path());
                    }
                    if files.len() > FILES_MAX {
                        return Err(IncludeError::TooMany);
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(IncludeError::Unreadable(error)),
        }
    }
    files.sort();
    Ok(Expanded {
        folder: folder.to_owned(),
        files,
    })
}

/// Shell-like: `*` any characters, `?` one; neither a leading dot (editors leave such files behind).
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // The last `*` and where its run began: on a mismatch the run grows by one. Linear in memory, no recursion.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some('?') => (p, n) = (p + 1, n + 1),
            Some(c) if *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, name, wanted) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".a.toml", false),
            ("*.toml", "a.toml~", false),
            ("*.toml", "a.toml.toml", true),
            ("a?.toml", "ab.toml", true),
            ("a?.toml", "a.toml", false),
            ("*", "anything", true),
            ("a*b*c", "aXXbXXbc", true),
            ("a*b*c", "aXXbXXb", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn names_files_in_order_and_says_what_cannot_be_a_pattern() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        for name in ["b.toml", "a.toml", "a.toml.bak", ".c.toml"] {
            std::fs::write(folder.path().join("conf.d").join(name), "").unwrap();
        }
        let found = expand(folder.path(), "conf.d/*.toml").unwrap();
        let names: Vec<_> = found.files.iter().map(|f| f.file_name().unwrap()).collect();
        assert_eq!(names, ["a.toml", "b.toml"]);
        assert_eq!(found.folder, folder.path().join("conf.d"));
        assert!(
            expand(folder.path(), "gone/*.toml")
                .unwrap()
                .files
                .is_empty()
        );
        assert!(matches!(
            expand(folder.path(), "*/a.toml"),
            Err(IncludeError::WildcardInFolder)
        ));
        assert!(matches!(
            expand(folder.path(), "conf.d/"),
            Err(IncludeError::NoFile)
        ));
    }
}

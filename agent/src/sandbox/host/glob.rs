//! Globs of grants, and opening what they allow without being led astray by links.
//!
//! ```text
//!   /var/log / *  / *.log
//!   \_______/ \__________/
//!    fixed:    matched, one folder at a time, links refused:
//!    links     whoever owns a folder below could point it at /etc
//!    followed
//! ```

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use std::os::fd::{AsFd, OwnedFd};

/// Folder entries that one listing looks at.
const VISITED_MAX: usize = 20_000;
/// Paths of one listing: a path is some hundred bytes, a transfer 4 MiB.
pub(super) const LISTED_MAX: usize = 4_096;
/// Folders below each other that `**` goes down.
const DEPTH_MAX: usize = 16;

/// An absolute path whose segments may hold `*`, `?` and `[a-z]`; `**` stands for any number of folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    segments: Vec<String>,
    /// Leading segments without wildcards that are folders: the operator's own words.
    fixed: usize,
}

/// A file found.
pub(super) struct Found {
    pub(super) path: String,
    pub(super) folder: std::sync::Arc<OwnedFd>,
    pub(super) name: String,
    pub(super) stat: Stat,
}

impl Glob {
    /// None for what is no clean absolute path.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('/')?;
        let segments: Vec<String> = rest.split('/').map(str::to_owned).collect();
        let unclean = |segment: &String| {
            segment.is_empty() || segment == "." || segment == ".." || segment.contains('\0')
        };
        if segments.iter().any(unclean) {
            return None;
        }
        let folders = &segments[..segments.len() - 1];
        let fixed = folders.iter().take_while(|s| !is_wild(s)).count();
        Some(Glob { segments, fixed })
    }

    /// Whether `path` is matched; also, read as text, whether another glob stays within this one.
    pub(super) fn covers(&self, path: &Glob) -> bool {
        covers(&self.segments, &path.segments)
    }

    /// Opens the folder of `path`, which this glob covers, and names the last segment.
    pub(super) fn open_folder(&self, path: &Glob) -> std::io::Result<(OwnedFd, String)> {
        let mut folder = self.open_fixed()?;
        let (name, folders) = path
            .segments
            .split_last()
            .ok_or(std::io::ErrorKind::InvalidInput)?;
        for segment in &folders[self.fixed.min(folders.len())..] {
            folder = open_below(&folder, segment, OFlags::PATH)?;
        }
        Ok((folder, name.clone()))
    }

    /// Regular files that `glob` matches, by path. This glob covers it.
    pub(super) fn list(&self, glob: &Glob) -> std::io::Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut visited = 0;
        let start = format!("/{}", self.segments[..self.fixed].join("/"));
        let start = start.trim_end_matches('/').to_owned();
        let rest = &glob.segments[self.fixed.min(glob.segments.len() - 1)..];
        let folder = match self.open_fixed() {
            Ok(folder) => folder,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        walk(&folder, &start, rest, 0, &mut visited, &mut found)?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found.dedup_by(|a, b| a.path == b.path);
        // What `**` reaches by text may still lie outside of the grant.
        found.retain(|file| Glob::parse(&file.path).is_some_and(|path| self.covers(&path)));
        Ok(found)
    }

    fn open_fixed(&self) -> std::io::Result<OwnedFd> {
        let path = format!("/{}", self.segments[..self.fixed].join("/"));
        Ok(openat(
            CWD,
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
    }
}

impl std::fmt::Display for Glob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for segment in &self.segments {
            write!(f, "/{segment}")?;
        }
        Ok(())
    }
}

fn open_below(folder: &impl AsFd, name: &str, access: OFlags) -> std::io::Result<OwnedFd> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

/// Goes down one segment. What cannot be read or vanishes meanwhile is no match.
fn walk(
    folder: &OwnedFd,
    path: &str,
    segments: &[String],
    depth: usize,
    visited: &mut usize,
    found: &mut Vec<Found>,
) -> std::io::Result<()> {
    let Some((segment, rest)) = segments.split_first() else {
        return Ok(());
    };
    let any_depth = segment == "**";
    if any_depth && !rest.is_empty() {
        walk(folder, path, rest, depth, visited, found)?;
    }
    let names = if is_wild(segment) {
        names_in(folder, visited)?
    } else {
        vec![segment.clone()]
    };
    let mut own: Option<std::sync::Arc<OwnedFd>> = None;
    for name in names {
        if found.len() >= LISTED_MAX {
            return Err(std::io::Error::other(format!(
                "more than {LISTED_MAX} files match"
            )));
        }
        if !any_depth && !matches(segment.as_bytes(), name.as_bytes()) {
            continue;
        }
        let Ok(stat) = statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let below = format!("{path}/{name}");
        if kind == FileType::RegularFile && rest.is_empty() {
            let folder = match &own {
                Some(own) => std::sync::Arc::clone(own),
                None => std::sync::Arc::new(folder.try_clone()?),
            };
            own = Some(std::sync::Arc::clone(&folder));
            found.push(Found {
                path: below,
                folder,
                name,
                stat,
            });
        } else if kind == FileType::Directory
            && depth < DEPTH_MAX
            && let Ok(next) = open_below(folder, &name, OFlags::PATH)
        {
            let segments = if any_depth { segments } else { rest };
            walk(&next, &below, segments, depth + 1, visited, found)?;
        }
    }
    Ok(())
}

fn names_in(folder: &OwnedFd, visited: &mut usize) -> std::io::Result<Vec<String>> {
    let Ok(readable) = open_below(folder, ".", OFlags::RDONLY) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&readable)? {
        let entry = entry?;
        // A name that is no text cannot be asked for.
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if name == "." || name == ".." {
            continue;
        }
        *visited += 1;
        if *visited > VISITED_MAX {
            return Err(std::io::Error::other(format!(
                "more than {VISITED_MAX} entries to look at: write a narrower glob"
            )));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn is_wild(segment: &str) -> bool {
    segment.contains(['*', '?', '['])
}

fn covers(glob: &[String], path: &[String]) -> bool {
    match glob.split_first() {
        None => path.is_empty(),
        Some((segment, rest)) if segment == "**" => {
            (0..=path.len()).any(|skip| {
                // `**` alone at the end stands for what is below, not for the folder itself.
                !(rest.is_empty() && skip == 0) && covers(rest, &path[skip..])
            })
        }
        Some((segment, rest)) => match path.split_first() {
            Some((name, below)) => {
                // Within a glob only `**` covers another `**`.
                name != "**" && matches(segment.as_bytes(), name.as_bytes()) && covers(rest, below)
            }
            None => false,
        },
    }
}

/// One segment. Hidden files need a dot of their own, as in a shell.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    matches_rest(pattern, name)
}

fn matches_rest(mut pattern: &[u8], mut name: &[u8]) -> bool {
    // Where to go on after a mismatch: one byte further behind the last star.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match pattern.first() {
            Some(b'*') => {
                retry = Some((&pattern[1..], name));
                pattern = &pattern[1..];
                continue;
            }
            None if name.is_empty() => return true,
            None => None,
            Some(b'?') if !name.is_empty() => Some(1),
            Some(b'[') if !name.is_empty() => class(pattern, name[0]),
            Some(byte) if name.first() == Some(byte) => Some(1),
            Some(_) => None,
        };
        match (step, retry) {
            (Some(used), _) => (pattern, name) = (&pattern[used..], &name[1..]),
            (None, Some((after, at))) if !at.is_empty() => {
                retry = Some((after, &at[1..]));
                (pattern, name) = (after, &at[1..]);
            }
            (None, _) => return false,
        }
    }
}

/// `[a-z]`, `[!0-9]`: how long the class is, if `byte` is in it. Without an end it is no class.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let Some(end) = pattern.iter().skip(2).position(|b| *b == b']') else {
        return (byte == b'[').then_some(1);
    };
    let end = end + 2;
    let (negated, set) = match &pattern[1..end] {
        [b'!' | b'^', set @ ..] => (true, set),
        set => (false, set),
    };
    let mut inside = false;
    let mut at = 0;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == b'-' {
            inside |= (set[at]..=set[at + 2]).contains(&byte);
            at += 3;
        } else {
            inside |= set[at] == byte;
            at += 1;
        }
    }
    (inside != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Glob {
        Glob::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn grants_cover_paths() {
        for (grant, path, covered) in [
            ("/var/log/*.log", "/var/log/a.log", true),
            ("/var/log/*.log", "/var/log/*.log", true),
            ("/var/log/*.log", "/var/log/sub/a.log", false),
            ("/var/log/*.log", "/var/log/.a.log", false),
            ("/var/log/*.log", "/var/log/a.log.1", false),
            ("/var/*/x", "/var/**/x", false),
            ("/var/**/x", "/var/**/x", true),
            ("/var/**/x", "/var/x", true),
            ("/var/**/x", "/var/a/b/x", true),
            ("/var/**", "/var", false),
            ("/var/**", "/var/a/b", true),
            ("/a?c/[x-z]1", "/abc/y1", true),
            ("/a?c/[!x-z]1", "/abc/y1", false),
            ("/a/*b*c", "/a/xbybzc", true),
            ("/a/*b*c", "/a/xbybz", false),
            ("/etc/hosts", "/etc/hosts", true),
            ("/etc/hosts", "/etc/hostsx", false),
            ("/a/[", "/a/[", true),
        ] {
            assert_eq!(glob(grant).covers(&glob(path)), covered, "{grant} {path}");
        }
    }

    #[test]
    fn unclean_paths_are_none() {
        for path in ["", "a", "/", "//a", "/a/../b", "/a/./b", "/a/", "/a\0"] {
            assert_eq!(Glob::parse(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_pattern_full_of_stars_ends() {
        let stars = "*a".repeat(50);
        assert!(!matches(stars.as_bytes(), "a".repeat(49).as_bytes()));
        assert!(matches(stars.as_bytes(), "a".repeat(60).as_bytes()));
    }
}

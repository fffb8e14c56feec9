//! Reads the folder of dropped-in components: which files there are, and what is in one of them.
//!
//! Whoever can write the folder or a file in it decides what runs, so both must belong to us or to
//! root and be writable by nobody else. Folder and file are opened once, the file through the folder;
//! owner, mode, hash and the compiled bytes all come from these descriptors, so there is nothing to exchange
//! between check and use.
//!
//! Links are followed, for a mounted ConfigMap consists of them: only who may write the folder can make one
//! there. The rules hold for the file it ends at and for the folder that file lies in. What is on a
//! mount that is read-only for us counts as writable by nobody, whatever its mode: such mounts have 0777
//! as a rule, and who mounts decides.

use super::compile::COMPONENT_BYTES_MAX;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatVfsMountFlags};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Bytes of a plugin's name.
const NAME_BYTES_MAX: usize = 64;

/// Components of a folder: far more than a host runs.
pub const FILES_MAX: usize = 1000;

/// Entries of any kind that are looked at: some milliseconds, and a bound for a folder that is no plugin folder.
const ENTRIES_MAX: usize = 20_000;

/// A file younger than this may be half-written.
const FRESH: Duration = Duration::from_secs(2);

/// What tells a file from its earlier self without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A component as read from the folder.
#[derive(Clone, Debug)]
pub struct Content {
    /// All of it; none: it was put aside, and is read again where it is needed.
    pub bytes: Option<Arc<[u8]>>,
    /// How many bytes it has.
    pub size: usize,
    /// SHA-256 of all of it.
    pub sha256: [u8; 32],
    /// Whether it was written so lately that it may be half of something.
    pub fresh: bool,
}

/// Why a file of the folder is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A pipe, a device, a folder.
    #[error("it is not a regular file")]
    NotRegular,
    /// Somebody else decides what is in it.
    #[error("{path} {problem}; {correction}", path = path.display())]
    Untrusted {
        /// The file or its folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
        /// What to do.
        correction: String,
    },
    /// Larger than a component may be.
    #[error("it has {0} bytes; a component may have {COMPONENT_BYTES_MAX}")]
    TooLarge(u64),
    /// It is being written just now.
    #[error("it changed while it was read")]
    Changing,
    /// Its name is no name of a plugin.
    #[error(
        "its name is not one of a plugin: lower-case letters, digits, '-' and '_', at most {NAME_BYTES_MAX}"
    )]
    Name,
}

/// The `*.wasm` of a folder by plugin name. A folder that is missing is empty. Names that are none are
/// listed too, with their own error at [`read`]. One that holds too much is an error: which part of it was seen would
/// be chance, and what was not seen would count as removed.
pub fn list(folder: &Path) -> io::Result<BTreeMap<Arc<str>, PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let mut found = BTreeMap::new();
    for (count, entry) in entries.enumerate() {
        let path = entry?.path();
        if count >= ENTRIES_MAX || found.len() > FILES_MAX {
            return Err(io::Error::other(format!(
                "it has more than {FILES_MAX} components or {ENTRIES_MAX} files: it is for plugins alone"
            )));
        }
        let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else {
            continue;
        };
        let name = stem.to_string_lossy();
        if extension == "wasm" && !name.starts_with('.') {
            found.insert(Arc::from(name.as_ref()), path);
        }
    }
    Ok(found)
}

/// What a file is now, links followed; none where there is no file.
pub fn identify(path: &Path) -> Option<Identity> {
    std::fs::metadata(path)
        .ok()
        .map(|metadata| Identity::of(&metadata))
}

/// Reads one file of the folder, checking everything that is asked of it.
pub fn read(path: &Path) -> Result<Content, ReadError> {
    let name = path.file_stem().and_then(|stem| stem.to_str());
    if !name.is_some_and(is_plugin_name) {
        return Err(ReadError::Name);
    }
    let (Some(folder), Some(file_name)) = (path.parent(), path.file_name()) else {
        return Err(ReadError::Name);
    };
    let folder_fd = open_folder(folder)?;
    // NONBLOCK: opening a pipe would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(&folder_fd, file_name, flags, Mode::empty());
    let mut file = File::from(opened.map_err(io::Error::from)?);
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(ReadError::NotRegular);
    }
    trusted(path, &before, is_read_only(&file)?)?;
    let entry = rustix::fs::statat(&folder_fd, file_name, AtFlags::SYMLINK_NOFOLLOW);
    let entry = entry.map_err(io::Error::from)?;
    if FileType::from_raw_mode(entry.st_mode) == FileType::Symlink {
        // Whoever can write there can put another file of ours or of root's in the place of this one.
        let place = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        open_folder(place.parent().unwrap_or(Path::new("/")))?;
    }
    if before.len() > COMPONENT_BYTES_MAX as u64 {
        return Err(ReadError::TooLarge(before.len()));
    }
    let mut bytes = Vec::with_capacity(before.len() as usize + 1);
    (&mut file)
        .take(COMPONENT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    let after = file.metadata()?;
    if Identity::of(&before) != Identity::of(&after) || bytes.len() as u64 != after.len() {
        return Err(ReadError::Changing);
    }
    let age = after
        .modified()
        .ok()
        .and_then(|modified| SystemTime::now().duration_since(modified).ok());
    Ok(Content {
        sha256: Sha256::digest(&bytes).into(),
        size: bytes.len(),
        bytes: Some(bytes.into()),
        // A time of modification in the future (a copied one, a clock that was set) says nothing.
        fresh: age.is_some_and(|age| age < FRESH),
    })
}

/// Whether a name can stand in configuration and in labels without surprises.
pub fn is_plugin_name(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(allowed)
}

/// Opens a folder that nobody else can write.
fn open_folder(folder: &Path) -> Result<File, ReadError> {
    // A path without a folder is relative to the working one.
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(folder, flags, Mode::empty()).map_err(io::Error::from)?;
    let opened = File::from(opened);
    trusted(folder, &opened.metadata()?, is_read_only(&opened)?)?;
    Ok(opened)
}

fn is_read_only(opened: &File) -> io::Result<bool> {
    let mount = rustix::fs::fstatvfs(opened)?;
    Ok(mount.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Refuses what others can write or own.
fn trusted(path: &Path, metadata: &Metadata, read_only: bool) -> Result<(), ReadError> {
    let ours = rustix::process::geteuid().as_raw();
    let untrusted = |problem, correction| ReadError::Untrusted {
        path: path.to_owned(),
        problem,
        correction,
    };
    if metadata.uid() != ours && metadata.uid() != 0 {
        return Err(untrusted(
            "belongs to a user who is neither the agent's nor root",
            format!("run: chown {ours} {}", path.display()),
        ));
    }
    if metadata.mode() & 0o022 != 0 && !read_only {
        return Err(untrusted(
            "can be written by others",
            format!("run: chmod go-w {}", path.display()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    }

    /// A folder with one trusted file `a.wasm`.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        chmod(folder.path(), 0o755);
        let file = folder.path().join("a.wasm");
        std::fs::write(&file, b"content").expect("written");
        chmod(&file, 0o644);
        (folder, file)
    }

    #[test]
    fn what_is_no_component_hides_none_and_too_many_are_an_error() {
        let (folder, file) = folder();
        for number in 0..=FILES_MAX {
            std::fs::write(folder.path().join(format!("{number}.txt")), b"").expect("written");
        }
        assert!(list(folder.path()).expect("listed").contains_key("a"));
        for number in 0..=FILES_MAX {
            std::fs::hard_link(&file, folder.path().join(format!("b{number}.wasm")))
                .expect("linked");
        }
        let error = list(folder.path()).expect_err("too many");
        assert!(error.to_string().contains("for plugins alone"), "{error}");
    }

    #[test]
    fn only_components_are_listed() {
        let (folder, file) = folder();
        for name in ["b.cwasm", ".hidden.wasm", "README.md", "wasm", ".wasm"] {
            std::fs::write(folder.path().join(name), b"").expect("written");
        }
        let found = list(folder.path()).expect("listed");
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("a".into(), file.clone())]
        );
        assert!(
            list(&folder.path().join("missing"))
                .expect("empty")
                .is_empty()
        );
        assert!(list(&file).is_err(), "a file is no folder");
    }

    #[test]
    fn a_file_is_read_with_its_hash_and_links_are_followed() {
        let (folder, file) = folder();
        let content = read(&file).expect("read");
        assert_eq!(content.bytes.as_deref(), Some(&b"content"[..]));
        assert_eq!(
            super::super::hex(&content.sha256)[..8],
            *"ed7002b4",
            "sha256sum of it"
        );
        assert!(content.fresh);
        let link = folder.path().join("link.wasm");
        symlink(&file, &link).expect("linked");
        assert_eq!(read(&link).expect("read").sha256, content.sha256);
        assert_eq!(identify(&link), identify(&file));
        std::fs::write(&file, b"other").expect("written");
        assert_ne!(read(&link).expect("read").sha256, content.sha256);
    }

    #[test]
    fn what_others_can_write_is_refused() {
        let (folder, file) = folder();
        for (path, mode, good) in [
            (&*file, 0o664, 0o644),
            (&*file, 0o646, 0o644),
            (folder.path(), 0o777, 0o755),
        ] {
            chmod(path, mode);
            let error = read(&file).expect_err("refused").to_string();
            assert!(error.contains("chmod go-w"), "{error}");
            chmod(path, good);
        }
        let link = folder.path().join("link.wasm");
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, b"content").expect("written");
        chmod(&elsewhere, 0o666);
        symlink(&elsewhere, &link).expect("linked");
        assert!(matches!(read(&link), Err(ReadError::Untrusted { .. })));
        assert!(read(&file).is_ok());
    }

    /// As a ConfigMap is mounted: a link to a file behind a link to a folder, which is swapped as a whole.
    #[test]
    fn a_link_is_followed_where_nobody_else_can_write_its_end() {
        let (folder, _) = folder();
        let at = |name: &str| folder.path().join(name);
        for (version, content) in [("..v1", "one"), ("..v2", "two")] {
            std::fs::create_dir(at(version)).expect("made");
            chmod(&at(version), 0o755);
            let file = at(version).join("mapped.wasm");
            std::fs::write(&file, content).expect("written");
            chmod(&file, 0o644);
        }
        symlink("..v1", at("..data")).expect("linked");
        symlink("..data/mapped.wasm", at("mapped.wasm")).expect("linked");
        let content = || read(&at("mapped.wasm")).map(|content| content.bytes);
        assert_eq!(content().expect("read").as_deref(), Some(&b"one"[..]));
        symlink("..v2", at("..next")).expect("linked");
        std::fs::rename(at("..next"), at("..data")).expect("swapped");
        assert_eq!(content().expect("read").as_deref(), Some(&b"two"[..]));
        assert_eq!(list(folder.path()).expect("listed").len(), 2, "with a.wasm");
        chmod(&at("..v2"), 0o777);
        let error = content().expect_err("others can write there").to_string();
        assert!(error.contains("..v2 can be written by others"), "{error}");
    }

    #[test]
    fn on_a_mount_that_is_read_only_the_mode_says_nothing_and_the_owner_all() {
        let (folder, file) = folder();
        chmod(folder.path(), 0o777);
        let metadata = std::fs::metadata(folder.path()).expect("there");
        assert!(trusted(folder.path(), &metadata, false).is_err());
        assert!(trusted(folder.path(), &metadata, true).is_ok());
        let opened = File::open(&file).expect("opened");
        assert!(!is_read_only(&opened).expect("known"), "tests write there");
    }

    #[test]
    fn another_users_file_is_refused() {
        let (_folder, file) = folder();
        let theirs = 1 + rustix::process::geteuid().as_raw();
        if std::os::unix::fs::chown(&file, Some(theirs), None).is_err() {
            eprintln!("SKIPPED: only root gives files away");
            return;
        }
        let error = read(&file).expect_err("refused").to_string();
        assert!(error.contains("chown"), "{error}");
    }

    #[test]
    fn what_is_no_file_no_name_or_too_much_is_refused() {
        let (folder, _) = folder();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("folder.wasm")).expect("made");
        assert!(matches!(
            read(&at("folder.wasm")),
            Err(ReadError::NotRegular)
        ));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe.wasm"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .expect("made");
        assert!(matches!(read(&at("pipe.wasm")), Err(ReadError::NotRegular)));
        std::fs::write(at("Übel.wasm"), b"").expect("written");
        assert!(matches!(read(&at("Übel.wasm")), Err(ReadError::Name)));
        assert!(matches!(read(&at("missing.wasm")), Err(ReadError::Io(_))));
        let huge = File::create(at("huge.wasm")).expect("made");
        huge.set_len(COMPONENT_BYTES_MAX as u64 + 1)
            .expect("sparse");
        chmod(&at("huge.wasm"), 0o644);
        assert!(matches!(
            read(&at("huge.wasm")),
            Err(ReadError::TooLarge(_))
        ));
        symlink("/etc/hostname-that-is-not", at("dangling.wasm")).expect("linked");
        assert!(matches!(read(&at("dangling.wasm")), Err(ReadError::Io(_))));
    }
}

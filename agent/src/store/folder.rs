//! The data folder: who owns it, which files of the store lie in it, where damaged ones go.

use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes set aside for the moment the disk is full: room for some hundred commits while an operator
/// makes space.
const RESERVE_BYTES: usize = 256 << 10;

/// Damaged files kept for people to look at; each may be as large as the state itself.
const QUARANTINED_MAX: usize = 3;

/// What precedes the number of a damaged file.
const QUARANTINED: &str = "state.db.corrupt-";

/// The data folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    dir: PathBuf,
}

/// Why the folder is not ours.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process holds it.
    InUse(Option<u32>),
    /// The lock file cannot be made or opened.
    Io(io::Error),
}

impl Folder {
    /// Takes the folder, made with mode 0700 where it is missing.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Folder {
            dir: dir.to_path_buf(),
        })
    }

    /// A folder that could not be made; every use of it fails until it is there.
    pub(super) fn missing(dir: &Path) -> Self {
        Folder {
            dir: dir.to_path_buf(),
        }
    }

    /// The folder itself.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The database.
    pub(super) fn database(&self) -> PathBuf {
        self.dir.join("state.db")
    }

    /// Its write-ahead log.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("state.db-wal")
    }

    /// A database that is being written; worth nothing before it is [`Folder::complete`].
    pub(super) fn part(&self) -> PathBuf {
        self.dir.join("state.db.part")
    }

    /// A complete database that is to take the place of `state.db`.
    pub(super) fn complete(&self) -> PathBuf {
        self.dir.join("state.db.new")
    }

    /// Takes the exclusive lock, held until the file is dropped. The kernel lets go of it with the
    /// process, however that ends. None: the disk is read-only and no lock file is there.
    pub(super) fn lock(&self) -> Result<Option<File>, LockError> {
        let path = self.dir.join("lock");
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let (mut file, writable) = match opened {
            Ok(file) => (file, true),
            Err(e) if is_disks_fault(&e) => match File::open(&path) {
                Ok(file) => (file, false),
                Err(_) => return Ok(None),
            },
            Err(e) => return Err(LockError::Io(e)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // Bounded: the file may hold anything.
                let mut text = String::new();
                let pid = file.take(16).read_to_string(&mut text).ok();
                return Err(LockError::InUse(pid.and_then(|_| text.trim().parse().ok())));
            }
            Err(TryLockError::Error(e)) => return Err(LockError::Io(e)),
        }
        if writable {
            // The pid is for people; the lock counts, not its text.
            let _ = file
                .set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| writeln!(file, "{}", std::process::id()));
        }
        Ok(Some(file))
    }

    /// Makes the reserve, unless it is there. False: there is no room for it.
    pub(super) fn reserve(&self) -> bool {
        let path = self.dir.join("reserve");
        if std::fs::metadata(&path).is_ok_and(|meta| meta.len() >= RESERVE_BYTES as u64) {
            return true;
        }
        // Not zeros: a compressing file system would keep no room for them.
        let noise: Vec<u8> = (0..RESERVE_BYTES as u64)
            .map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
            .collect();
        let written = std::fs::write(&path, noise).is_ok();
        if !written {
            let _ = std::fs::remove_file(&path);
        }
        written
    }

    /// Whether a database has stood here: the reserve is made after the first one is in place. So a first
    /// start is told from one whose database somebody took away.
    pub(super) fn was_used(&self) -> bool {
        self.dir.join("reserve").exists()
    }

    /// Gives the reserve back to the disk. False: there was none.
    pub(super) fn release(&self) -> bool {
        std::fs::remove_file(self.dir.join("reserve")).is_ok()
    }

    /// Moves the database and its log out of the way, their bytes untouched; keeps the newest three.
    pub(super) fn quarantine(&self) -> io::Result<PathBuf> {
        let next = self.quarantined().last().map_or(1, |newest| newest + 1);
        let to = self.dir.join(format!("{QUARANTINED}{next}"));
        // The database first: a database without its log would look like an older, sound state.
        std::fs::rename(self.database(), &to)?;
        self.move_log_to(next)?;
        self.remove_leftovers();
        self.drop_surplus();
        self.sync();
        Ok(to)
    }

    /// Keeps the newest three.
    fn drop_surplus(&self) {
        let all = self.quarantined();
        for old in &all[..all.len().saturating_sub(QUARANTINED_MAX)] {
            let path = self.dir.join(format!("{QUARANTINED}{old}"));
            // It may have been a folder.
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
            let _ = std::fs::remove_file(self.dir.join(format!("{QUARANTINED}{old}-wal")));
        }
    }

    /// After a crash in the midst of [`Folder::quarantine`], a log may lie beside no database: it goes
    /// where its database went. There may also be more damaged ones than are kept.
    pub(super) fn finish_quarantine(&self) -> io::Result<()> {
        let moved = match self.quarantined().last() {
            Some(newest) if self.log().exists() => self.move_log_to(*newest),
            _ => Ok(()),
        };
        self.drop_surplus();
        moved
    }

    /// Removes what SQLite left beside a database that is not there any more: a log or a journal would
    /// be applied to the next one of that name.
    pub(super) fn remove_leftovers(&self) {
        for rest in ["wal", "shm", "journal"] {
            let _ = std::fs::remove_file(self.dir.join(format!("state.db-{rest}")));
        }
    }

    /// Whether a damaged database lies here.
    pub(super) fn has_quarantined(&self) -> bool {
        !self.quarantined().is_empty()
    }

    /// Makes names durable: renames and creations up to here.
    pub(super) fn sync(&self) {
        // Some file systems cannot sync a folder; they keep the order of renames by themselves.
        let _ = File::open(&self.dir).and_then(|dir| dir.sync_all());
    }

    fn move_log_to(&self, number: u64) -> io::Result<()> {
        let to = self.dir.join(format!("{QUARANTINED}{number}-wal"));
        match std::fs::rename(self.log(), to) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Numbers of the damaged databases, oldest first.
    fn quarantined(&self) -> Vec<u64> {
        let mut all: Vec<u64> = std::fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                entry
                    .file_name()
                    .to_str()?
                    .strip_prefix(QUARANTINED)?
                    .parse()
                    .ok()
            })
            .collect();
        all.sort_unstable();
        all
    }
}

/// Whether an error is the disk's (full, read-only, broken) and not a mistake in the set-up: with
/// the former the agent goes on in memory, with the latter it must not start.
pub(crate) fn is_disks_fault(error: &io::Error) -> bool {
    [Errno::ROFS, Errno::NOSPC, Errno::DQUOT, Errno::IO]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_damaged_files_are_kept_with_their_logs() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::create(temp.path()).unwrap();
        for n in 1..=5 {
            std::fs::write(folder.database(), format!("db {n}")).unwrap();
            std::fs::write(folder.log(), format!("wal {n}")).unwrap();
            folder.quarantine().unwrap();
        }
        assert_eq!(folder.quarantined(), [3, 4, 5]);
        for n in 3..=5 {
            let path = temp.path().join(format!("state.db.corrupt-{n}"));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("db {n}"));
            let log = temp.path().join(format!("state.db.corrupt-{n}-wal"));
            assert_eq!(std::fs::read_to_string(log).unwrap(), format!("wal {n}"));
        }
        assert!(!temp.path().join("state.db.corrupt-2-wal").exists());
        assert!(!folder.database().exists());
    }

    #[test]
    fn a_crash_between_the_two_renames_is_made_good() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::create(temp.path()).unwrap();
        std::fs::write(temp.path().join("state.db.corrupt-4"), "db").unwrap();
        std::fs::write(folder.log(), "wal").unwrap();
        folder.finish_quarantine().unwrap();
        let log = temp.path().join("state.db.corrupt-4-wal");
        assert_eq!(std::fs::read_to_string(log).unwrap(), "wal");
        folder.finish_quarantine().unwrap();
    }

    #[test]
    fn a_second_lock_names_the_first_owner() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::create(temp.path()).unwrap();
        let first = folder.lock().unwrap();
        match folder.lock() {
            Err(LockError::InUse(pid)) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        assert!(folder.lock().unwrap().is_some());
    }

    #[test]
    fn the_folder_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        Folder::create(&dir).unwrap();
        let mode = std::fs::metadata(&dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

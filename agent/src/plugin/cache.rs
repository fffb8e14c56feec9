//! The code cache: artefacts of our own compiler, kept so that a start needs no compiler.
//!
//! An artefact is native code that the agent executes, so nothing is taken from the folder on trust:
//! the folder must belong to us alone, and each file carries an HMAC over its name and content made
//! with a random key that only we can read. A file that fails is deleted and compiled again; it is
//! never an error. Artefacts are read whole: a mapped file that somebody overwrites changes running code. What is mapped
//! is a copy without a name ([`CodeCache::unnamed`]).
//!
//! ```text
//!   data_dir/code.key    32 random bytes, 0600
//!   data_dir/code/HEX    HMAC-SHA-256 (32 bytes), then the artefact; HEX is the key of the artefact
//! ```

use hmac::{Hmac, Mac};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Bytes of all artefacts together; the oldest go first. A stock artefact has 0.2 MB, one of Python 35 MB:
/// room for some of those and for the versions of a day of plugin writing.
pub const CAPACITY_BYTES: u64 = 256 << 20;

/// Bytes of an authentication tag, a key, a hash.
const TAG_BYTES: usize = 32;

/// Name of the key's file in the data folder.
const KEY_FILE: &str = "code.key";

/// Beginning of names of files that are being written.
const TEMPORARY: &str = ".new-";

/// Why there is no usable code cache. The agent runs without one, slower at start.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Somebody else could put native code there.
    #[error("{path} {problem}, so whoever that is could put native code into the agent; {correction}", path = path.display())]
    Unsafe {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
        /// What to do.
        correction: String,
    },
    /// The operating system refused.
    #[error("cannot {operation} {path}", path = path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Identifies an artefact: the component and everything that decides how it is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// SHA-256 over the component's SHA-256 and the sandbox's compatibility key (full version of
    /// wasmtime, its settings, build of the agent).
    pub fn new(component_sha256: &[u8; 32], compatibility: &[u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(component_sha256);
        hash.update(compatibility);
        CacheKey(hash.finalize().into())
    }

    /// The file's name: 64 hexadecimal digits.
    fn file_name(&self) -> String {
        super::hex(&self.0)
    }
}

/// An authenticated artefact.
pub struct Artefact {
    /// The file as read: tag, then code. Not cut, to spare a copy of up to 100 MB.
    file: Vec<u8>,
}

impl std::ops::Deref for Artefact {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.file[TAG_BYTES..]
    }
}

/// The open cache. All its calls block on the disk.
pub struct CodeCache {
    /// Where it is, for messages.
    path: PathBuf,
    /// The checked folder: later look-ups start here, so nobody can exchange it under our feet.
    folder: OwnedFd,
    /// Key of the HMAC.
    key: [u8; TAG_BYTES],
    /// Bytes of all artefacts together.
    capacity_bytes: u64,
}

/// Names what failed, for `map_err`.
fn failed(operation: &'static str, path: &Path) -> impl FnOnce(Errno) -> CacheError {
    let path = path.to_owned();
    move |error| CacheError::Io {
        operation,
        path,
        source: error.into(),
    }
}

impl CodeCache {
    /// Opens `data_dir/code`, making it and the key where they are missing.
    ///
    /// Fails when the folder is not ours alone. A damaged or readable key is replaced, which makes
    /// every artefact that exists worthless.
    pub fn open(data_dir: &Path, capacity_bytes: u64) -> Result<Self, CacheError> {
        let path = data_dir.join("code");
        match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("create", &path)(error)),
        }
        let cache = Self::open_folder(data_dir, capacity_bytes)?;
        for (name, ..) in cache.list() {
            if name.starts_with(TEMPORARY) {
                cache.remove(&name);
            }
        }
        Ok(cache)
    }

    /// The cache of an agent that may be running, for a command beside it: made by the agent, and of this
    /// user; none where there is no such thing.
    pub fn beside(data_dir: &Path) -> Option<Self> {
        let key = data_dir.join(KEY_FILE);
        // Opening would replace a key that it cannot read.
        let own = std::fs::read(key).is_ok_and(|key| key.len() == TAG_BYTES);
        own.then(|| Self::open_folder(data_dir, CAPACITY_BYTES).ok())?
    }

    fn open_folder(data_dir: &Path, capacity_bytes: u64) -> Result<Self, CacheError> {
        let path = data_dir.join("code");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder =
            rustix::fs::open(&path, flags, Mode::empty()).map_err(failed("open", &path))?;
        let stat = rustix::fs::fstat(&folder).map_err(failed("inspect", &path))?;
        let uid = rustix::process::geteuid().as_raw();
        if stat.st_uid != uid {
            return Err(CacheError::Unsafe {
                correction: format!("remove it or run: chown {uid} {}", path.display()),
                problem: "belongs to another user",
                path,
            });
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(CacheError::Unsafe {
                correction: format!("run: chmod 700 {}", path.display()),
                problem: "can be written by others",
                path,
            });
        }
        let key = key(data_dir).map_err(|source| CacheError::Io {
            operation: "read or make",
            path: data_dir.join(KEY_FILE),
            source,
        })?;
        Ok(CodeCache {
            path,
            folder,
            key,
            capacity_bytes,
        })
    }

    /// The artefact, if it is there and is what we once wrote.
    pub fn read(&self, key: &CacheKey) -> Option<Artefact> {
        let name = key.file_name();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match rustix::fs::openat(&self.folder, &name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return None,
            Err(error) => {
                tracing::warn!(artefact = name, %error, "cannot open a file of the code cache; it is compiled again");
                self.remove(&name);
                return None;
            }
        };
        let mut content = Vec::new();
        let read = file.metadata().and_then(|metadata| {
            if !metadata.is_file() || metadata.len() > self.capacity_bytes {
                return Err(io::ErrorKind::InvalidData.into());
            }
            content.reserve_exact(metadata.len() as usize + 1);
            (&mut file)
                .take(self.capacity_bytes)
                .read_to_end(&mut content)
        });
        if read.is_ok() && self.is_ours(key, &content) {
            // Makes "oldest" mean "longest unused".
            let now = Timestamps {
                last_access: omit(),
                last_modification: Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_NOW,
                },
            };
            let _ = rustix::fs::futimens(&file, &now);
            return Some(Artefact { file: content });
        }
        tracing::warn!(
            artefact = name,
            "a file of the code cache is damaged; it is deleted and compiled again"
        );
        self.remove(&name);
        None
    }

    /// Puts an artefact in, durably, and makes room for it.
    pub fn write(&self, key: &CacheKey, artefact: &[u8]) -> Result<(), CacheError> {
        let name = key.file_name();
        let failed = |operation| {
            let path = self.path.join(&name);
            move |source: io::Error| CacheError::Io {
                operation,
                path,
                source,
            }
        };
        if (artefact.len() + TAG_BYTES) as u64 > self.capacity_bytes {
            return Ok(());
        }
        let temporary = format!("{TEMPORARY}{name}");
        self.remove(&temporary);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let written = (|| {
            let file = rustix::fs::openat(&self.folder, &temporary, flags, Mode::RUSR | Mode::WUSR)
                .map_err(io::Error::from)?;
            let mut file = File::from(file);
            file.write_all(&self.mac(key, artefact).finalize().into_bytes())?;
            file.write_all(artefact)?;
            file.sync_all()
        })();
        if let Err(error) = written {
            self.remove(&temporary);
            return Err(failed("write")(error));
        }
        rustix::fs::renameat(&self.folder, &temporary, &self.folder, &name)
            .map_err(|error| failed("rename")(error.into()))?;
        let _ = rustix::fs::fsync(&self.folder);
        self.evict(&name);
        Ok(())
    }

    /// A file without a name with this content, in the cache's folder: it can be mapped, and nobody can overwrite it
    /// meanwhile. None where the disk is full or the file system has no such files (NFS, FUSE).
    pub fn unnamed(&self, artefact: &[u8]) -> Option<File> {
        // With EXCL it cannot be given a name later.
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.folder, ".", flags, Mode::RUSR)
            .map_err(io::Error::from)
            .and_then(|file| {
                let mut file = File::from(file);
                file.write_all(artefact)?;
                Ok(file)
            });
        made.inspect_err(|error| tracing::debug!(%error, "no unnamed file for compiled code"))
            .ok()
    }

    /// Drops one artefact: a file that passed the check and still could not be loaded.
    pub fn forget(&self, key: &CacheKey) {
        self.remove(&key.file_name());
    }

    fn is_ours(&self, key: &CacheKey, content: &[u8]) -> bool {
        content
            .split_at_checked(TAG_BYTES)
            .is_some_and(|(tag, artefact)| self.mac(key, artefact).verify_slice(tag).is_ok())
    }

    fn mac(&self, key: &CacheKey, artefact: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(&key.0);
        mac.update(artefact);
        mac
    }

    /// Deletes the oldest until all fits; never `newest`.
    fn evict(&self, newest: &str) {
        let mut files = self.list();
        files.sort_by_key(|(_, _, modified)| *modified);
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (name, bytes, _) in files {
            if total <= self.capacity_bytes {
                break;
            }
            if name != newest {
                self.remove(&name);
                total -= bytes;
            }
        }
    }

    /// Name, size in bytes and time of modification of every file.
    fn list(&self) -> Vec<(String, u64, (i64, i64))> {
        let Ok(entries) = rustix::fs::Dir::read_from(&self.folder) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_str().ok()?.to_owned();
                let stat =
                    rustix::fs::statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
                let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
                let modified = (stat.st_mtime as i64, stat.st_mtime_nsec as i64);
                is_file.then_some((name, stat.st_size as u64, modified))
            })
            .collect()
    }

    fn remove(&self, name: &str) {
        let _ = rustix::fs::unlinkat(&self.folder, name, AtFlags::empty());
    }
}

fn omit() -> Timespec {
    Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    }
}

/// Reads the key, or makes a new one where there is none that only we could know.
fn key(data_dir: &Path) -> io::Result<[u8; TAG_BYTES]> {
    let path = data_dir.join(KEY_FILE);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(&path, flags, Mode::empty()) {
        let stat = rustix::fs::fstat(&file)?;
        let ours = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o077 == 0;
        let mut content = Vec::new();
        File::from(file)
            .take(TAG_BYTES as u64 + 1)
            .read_to_end(&mut content)?;
        match <[u8; TAG_BYTES]>::try_from(content) {
            Ok(key) if ours => return Ok(key),
            _ => {
                tracing::warn!(path = %path.display(), "the key of the code cache is damaged or readable by others; a new one is made")
            }
        }
    }
    let mut key = [0; TAG_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let temporary = data_dir.join(format!("{KEY_FILE}.new"));
    let _ = std::fs::remove_file(&temporary);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(
        &temporary,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?);
    file.write_all(&key)?;
    file.sync_all()?;
    std::fs::rename(&temporary, &path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    }

    struct Fixture {
        data: tempfile::TempDir,
        cache: CodeCache,
        key: CacheKey,
    }

    impl Fixture {
        fn new() -> Self {
            let data = tempfile::tempdir().expect("a folder");
            let cache = CodeCache::open(data.path(), CAPACITY_BYTES).expect("a cache");
            let key = CacheKey::new(&[1; 32], &[2; 32]);
            cache.write(&key, b"native code").expect("written");
            Fixture { data, cache, key }
        }

        fn file(&self) -> PathBuf {
            self.data.path().join("code").join(self.key.file_name())
        }
    }

    #[test]
    fn what_was_written_is_read_also_by_the_next_process() {
        let fixture = Fixture::new();
        assert_eq!(
            &*fixture.cache.read(&fixture.key).expect("there"),
            b"native code"
        );
        let again = CodeCache::open(fixture.data.path(), CAPACITY_BYTES).expect("a cache");
        assert_eq!(&*again.read(&fixture.key).expect("there"), b"native code");
        assert!(again.read(&CacheKey::new(&[1; 32], &[3; 32])).is_none());
        let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!(mode(&fixture.data.path().join("code")), 0o700);
        assert_eq!(mode(&fixture.data.path().join(KEY_FILE)), 0o600);
        assert_eq!(mode(&fixture.file()), 0o600);
    }

    #[test]
    fn every_damage_is_found_and_deleted() {
        type Damage = fn(&mut Vec<u8>);
        let damages: [(&str, Damage); 6] = [
            ("a bit of the code", |file| file[TAG_BYTES + 3] ^= 1),
            ("a bit of the tag", |file| file[0] ^= 0x80),
            ("one byte short", |file| file.truncate(file.len() - 1)),
            ("one byte long", |file| file.push(0)),
            ("shorter than a tag", |file| file.truncate(5)),
            ("empty", Vec::clear),
        ];
        for (what, damage) in damages {
            let fixture = Fixture::new();
            let mut content = std::fs::read(fixture.file()).expect("there");
            damage(&mut content);
            std::fs::write(fixture.file(), content).expect("damaged");
            assert!(fixture.cache.read(&fixture.key).is_none(), "{what}");
            assert!(!fixture.file().exists(), "{what}");
            fixture
                .cache
                .write(&fixture.key, b"again")
                .expect("written again");
            assert_eq!(&*fixture.cache.read(&fixture.key).expect("there"), b"again");
        }
    }

    #[test]
    fn an_artefact_under_another_name_is_refused() {
        let fixture = Fixture::new();
        let other = CacheKey::new(&[9; 32], &[2; 32]);
        let folder = fixture.data.path().join("code");
        std::fs::copy(fixture.file(), folder.join(other.file_name())).expect("copied");
        assert!(fixture.cache.read(&other).is_none());
        std::os::unix::fs::symlink(fixture.file(), folder.join(other.file_name())).expect("linked");
        assert!(fixture.cache.read(&other).is_none());
        assert!(fixture.cache.read(&fixture.key).is_some());
    }

    #[test]
    fn a_new_key_makes_old_artefacts_worthless() {
        let fixture = Fixture::new();
        let key = fixture.data.path().join(KEY_FILE);
        chmod(&key, 0o644);
        let cache = CodeCache::open(fixture.data.path(), CAPACITY_BYTES).expect("a cache");
        assert!(cache.read(&fixture.key).is_none());
        assert_eq!(
            std::fs::metadata(&key).expect("there").mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let fixture = Fixture::new();
        let folder = fixture.data.path().join("code");
        for mode in [0o720, 0o702, 0o777] {
            chmod(&folder, mode);
            let refused = CodeCache::open(fixture.data.path(), CAPACITY_BYTES);
            let text = refused.err().expect("refused").to_string();
            assert!(text.contains("chmod 700"), "{text}");
        }
        chmod(&folder, 0o700);
        std::fs::rename(&folder, fixture.data.path().join("elsewhere")).expect("moved");
        std::os::unix::fs::symlink(fixture.data.path().join("elsewhere"), &folder).expect("linked");
        assert!(CodeCache::open(fixture.data.path(), CAPACITY_BYTES).is_err());
    }

    #[test]
    fn the_longest_unused_artefact_goes_first() {
        let data = tempfile::tempdir().expect("a folder");
        let cache = CodeCache::open(data.path(), 300).expect("a cache");
        let keys: Vec<CacheKey> = (0..4).map(|n| CacheKey::new(&[n; 32], &[0; 32])).collect();
        for (age, key) in [(30, &keys[0]), (20, &keys[1])] {
            cache.write(key, &[0; 68]).expect("written");
            let file = File::open(data.path().join("code").join(key.file_name())).expect("there");
            file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(age))
                .expect("aged");
        }
        assert!(
            cache.read(&keys[0]).is_some(),
            "used now, so younger than the other"
        );
        cache.write(&keys[2], &[0; 68]).expect("written");
        cache.write(&keys[3], &[0; 68]).expect("written");
        let there: Vec<bool> = keys.iter().map(|key| cache.read(key).is_some()).collect();
        assert_eq!(there, [true, false, true, true]);
        cache
            .write(&CacheKey::new(&[9; 32], &[0; 32]), &[0; 400])
            .expect("too big is not kept");
        assert!(cache.read(&CacheKey::new(&[9; 32], &[0; 32])).is_none());
    }

    #[test]
    fn an_unnamed_file_holds_the_bytes_and_is_not_in_the_folder() {
        let fixture = Fixture::new();
        let count = || {
            std::fs::read_dir(fixture.data.path().join("code"))
                .expect("there")
                .count()
        };
        let before = count();
        let mut file = fixture.cache.unnamed(b"code").expect("a file");
        let mut content = String::new();
        io::Seek::rewind(&mut file).expect("a file");
        file.read_to_string(&mut content).expect("text");
        assert_eq!((&*content, count()), ("code", before));
    }

    #[test]
    fn leftovers_of_a_killed_process_are_removed() {
        let fixture = Fixture::new();
        let leftover = fixture
            .data
            .path()
            .join("code")
            .join(format!("{TEMPORARY}abc"));
        std::fs::write(&leftover, b"half").expect("written");
        CodeCache::open(fixture.data.path(), CAPACITY_BYTES).expect("a cache");
        assert!(!leftover.exists());
    }
}

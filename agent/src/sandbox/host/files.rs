//! `files`: granted globs, read only. Regular files, bounded, never what the kernel tells about the agent itself.

use super::HostState;
use super::glob::{Found, Glob};
use crate::sandbox::bindings::wit;
use crate::sandbox::types::CallError;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, statat};
use rustix::io::Errno;
use std::io;

/// Bytes of one read.
const READ_BYTES_MAX: u32 = 1 << 20;
/// The magic number of procfs, from linux/magic.h.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
/// Below /proc, whoever it belongs to: memory, environment, open files and what leads there.
const PROC_SECRETS: [&str; 20] = [
    "auxv",
    "cwd",
    "environ",
    "exe",
    "fd",
    "fdinfo",
    "kallsyms",
    "kcore",
    "kmsg",
    "kpagecount",
    "kpageflags",
    "map_files",
    "maps",
    "mem",
    "numa_maps",
    "pagemap",
    "root",
    "self",
    "smaps",
    "thread-self",
];

/// Why a file was not read; how it is told to the guest.
enum Failure {
    Denied(String),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Failure::Io(error.into())
    }
}

impl HostState {
    /// The grant that covers `path`, with the path.
    pub(super) fn granted_glob(
        &self,
        path: &str,
        granted: &[String],
        key: &str,
    ) -> Result<(Glob, Glob), CallError> {
        let Some(asked) = Glob::parse(path) else {
            return Err(CallError::Denied(format!(
                "{path:?} is no absolute path without `.`, `..` and double slashes"
            )));
        };
        let grant = granted
            .iter()
            .filter_map(|grant| Glob::parse(grant))
            .find(|grant| grant.covers(&asked));
        match grant {
            Some(grant) => Ok((grant, asked)),
            None => Err(self
                .using
                .denied(&format!("{key} {path:?}"), &format!("{key} = [{path:?}]"))),
        }
    }

    /// Runs `work` where a hung disk holds up nobody else, within the wall limit of the call.
    pub(super) async fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| CallError::Unavailable {
            message: "the sandbox is shutting down".into(),
            retry_after: None,
        })
    }

    async fn on_file<T: Send + 'static>(
        &mut self,
        path: &str,
        work: impl FnOnce(&Glob, &Glob) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, CallError> {
        // First: who is told what to grant must not find out afterwards that it opens nothing.
        if let Some(why) = forbidden(path) {
            return Err(CallError::Denied(format!(
                "{path:?} is not read: {why}; no grant opens it"
            )));
        }
        let (grant, asked) = self.granted_glob(path, &self.using.settings.grants.files, "files")?;
        let done = Self::blocking(move || work(&grant, &asked)).await?;
        done.map_err(|failure| match failure {
            Failure::Denied(why) => CallError::Denied(format!("{path:?} is not read: {why}")),
            Failure::Io(error) => CallError::Unavailable {
                message: format!("{path:?}: {error}"),
                retry_after: None,
            },
        })
    }
}

/// What no grant opens.
fn forbidden(path: &str) -> Option<&'static str> {
    let rest = path.strip_prefix("/proc/")?;
    let own = std::process::id().to_string();
    let secret = |segment: &str| PROC_SECRETS.contains(&segment) || segment.starts_with("smaps");
    if rest.split('/').any(secret) {
        return Some("it shows the inside of a process");
    }
    // Threads have numbers under /proc, too; what they would show is in the list above.
    (rest.split('/').next() == Some(&own)).then_some("it is about the agent itself")
}

fn read(grant: &Glob, path: &Glob, offset: u64, limit: u32) -> Result<wit::files::Chunk, Failure> {
    let (folder, name) = grant.open_folder(path).map_err(link_told)?;
    // Opening is an act of its own: the writer of a FIFO goes on and finds nobody, a watchdog begins to count.
    check_kind(&statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)?)?;
    // Not blocking: should it be a FIFO by now, it would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&folder, name, flags | OFlags::NOCTTY, Mode::empty())
        .map_err(|error| link_told(error.into()))?;
    let stat = fstat(&file)?;
    check_kind(&stat)?;
    // A fixed part of the grant may be a link into procfs, as /dev/fd is.
    let on_proc = u64::try_from(fstatfs(&file)?.f_type) == Ok(PROC_SUPER_MAGIC);
    if on_proc && !path.to_string().starts_with("/proc/") {
        return Err(Failure::Denied("it leads into /proc".into()));
    }
    let mut bytes = vec![0; limit.min(READ_BYTES_MAX) as usize];
    let mut length = 0;
    while length < bytes.len() {
        // Files of procfs and sysfs have no size: read until the end.
        match rustix::io::pread(&file, &mut bytes[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(wit::files::Chunk {
        bytes,
        file: metadata(&stat),
    })
}

fn stat(grant: &Glob, path: &Glob) -> Result<Option<wit::files::Metadata>, Failure> {
    let found = grant
        .open_folder(path)
        .and_then(|(folder, name)| Ok(statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?));
    match found {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            Ok(Some(metadata(&stat)))
        }
        Ok(stat) => check_kind(&stat).map(|()| Some(metadata(&stat))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(link_told(error)),
    }
}

fn check_kind(stat: &Stat) -> Result<(), Failure> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(Failure::Denied(
            "it is a link: grant the file it points to".into(),
        )),
        _ => Err(Failure::Denied("it is no regular file".into())),
    }
}

/// A refused link arrives as an error of the kernel.
fn link_told(error: io::Error) -> Failure {
    let refused = [Errno::LOOP, Errno::NOTDIR].map(|errno| Some(errno.raw_os_error()));
    if refused.contains(&error.raw_os_error()) {
        return Failure::Denied("a part of it is a link: grant the path it points to".into());
    }
    Failure::Io(error)
}

fn metadata(stat: &Stat) -> wit::files::Metadata {
    wit::files::Metadata {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified_at: modified_at(stat),
        device: stat.st_dev,
        inode: stat.st_ino,
    }
}

/// Seconds since 1970; what was changed before is 0.
#[expect(
    clippy::useless_conversion,
    reason = "the type of st_mtime differs between processors"
)]
pub(super) fn modified_at(stat: &Stat) -> u64 {
    i64::try_from(stat.st_mtime)
        .ok()
        .and_then(|seconds| u64::try_from(seconds).ok())
        .unwrap_or(0)
}

impl wit::files::Host for HostState {
    async fn read(
        &mut self,
        path: String,
        offset: u64,
        limit: u32,
    ) -> wasmtime::Result<Result<wit::files::Chunk, wit::types::Error>> {
        let charged = self.charge()?;
        let chunk = self
            .on_file(&path, move |grant, path| read(grant, path, offset, limit))
            .await;
        self.answer(charged, chunk)
    }

    async fn stat(
        &mut self,
        path: String,
    ) -> wasmtime::Result<Result<Option<wit::files::Metadata>, wit::types::Error>> {
        let charged = self.charge()?;
        let metadata = self.on_file(&path, stat).await;
        self.answer(charged, metadata)
    }

    async fn listing(
        &mut self,
        glob: String,
    ) -> wasmtime::Result<Result<Vec<String>, wit::types::Error>> {
        let charged = self.charge()?;
        let paths = self
            .on_file(&glob, |grant, glob| {
                let found: Vec<Found> = grant.list(glob)?;
                let paths = found.into_iter().map(|file| file.path);
                Ok(paths.filter(|path| forbidden(path).is_none()).collect())
            })
            .await;
        self.answer(charged, paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn globs(grant: &str, path: &str) -> (Glob, Glob) {
        (Glob::parse(grant).unwrap(), Glob::parse(path).unwrap())
    }

    fn text(result: Result<wit::files::Chunk, Failure>) -> String {
        match result {
            Ok(chunk) => String::from_utf8(chunk.bytes).unwrap(),
            Err(Failure::Denied(why)) => format!("denied: {why}"),
            Err(Failure::Io(error)) => format!("{:?}", error.kind()),
        }
    }

    #[test]
    fn regular_files_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_str().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        fs::write(folder.path().join("real/a.log"), "0123456789").unwrap();
        symlink("a.log", folder.path().join("real/link.log")).unwrap();
        symlink("/etc", folder.path().join("etc")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.path().join("real/fifo.log"),
            FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        let grant = format!("{at}/*/*");
        let get = |path: &str, offset, limit| {
            let (grant, path) = globs(&grant, &format!("{at}/{path}"));
            text(read(&grant, &path, offset, limit))
        };
        assert_eq!(get("real/a.log", 0, 100), "0123456789");
        assert_eq!(get("real/a.log", 8, 100), "89");
        assert_eq!(get("real/a.log", 2, 3), "234");
        assert_eq!(get("real/a.log", 99, 3), "");
        assert!(get("real/link.log", 0, 9).starts_with("denied: it is a link"));
        assert!(get("etc/hosts", 0, 9).starts_with("denied: a part of it is a link"));
        assert!(get("real/fifo.log", 0, 9).starts_with("denied: it is no regular file"));
        assert_eq!(get("real/none.log", 0, 9), "NotFound");
        // The kernel opens no socket: that it is one was known before.
        let _listener = UnixListener::bind(folder.path().join("real/socket.log")).unwrap();
        assert!(get("real/socket.log", 0, 9).starts_with("denied: it is no regular file"));

        let listed = Glob::parse(&grant).unwrap();
        let names: Vec<String> = listed
            .list(&listed)
            .unwrap()
            .into_iter()
            .map(|f| f.path)
            .collect();
        assert_eq!(names, [format!("{at}/real/a.log")]);
    }

    #[test]
    fn two_stars_go_down_and_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_str().unwrap();
        fs::create_dir_all(folder.path().join("a/b/c")).unwrap();
        for file in [
            "a/1.log",
            "a/b/2.log",
            "a/b/c/3.log",
            "a/b/c/x.txt",
            "0.log",
        ] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        symlink("/", folder.path().join("a/up")).unwrap();
        let glob = Glob::parse(&format!("{at}/a/**/*.log")).unwrap();
        let found = glob.list(&glob).unwrap();
        let paths: Vec<&str> = found.iter().map(|f| &f.path[at.len()..]).collect();
        assert_eq!(paths, ["/a/1.log", "/a/b/2.log", "/a/b/c/3.log"]);
    }

    #[test]
    fn the_inside_of_processes_is_closed() {
        for path in [
            "/proc/self/status",
            "/proc/thread-self/stat",
            "/proc/1/environ",
            "/proc/1/mem",
            "/proc/1/fd/3",
            "/proc/1/task/1/mem",
            "/proc/1/root/etc/shadow",
            "/proc/1/smaps_rollup",
            "/proc/kcore",
            &format!("/proc/{}/status", std::process::id()),
        ] {
            assert!(forbidden(path).is_some(), "{path}");
        }
        for path in ["/proc/meminfo", "/proc/1/status", "/var/self/mem"] {
            assert_eq!(forbidden(path), None, "{path}");
        }
    }

    #[test]
    fn a_link_into_proc_is_not_followed_either() {
        let folder = tempfile::tempdir().unwrap();
        symlink("/proc/self", folder.path().join("p")).unwrap();
        let path = format!("{}/p/status", folder.path().to_str().unwrap());
        let (grant, path) = globs(&path, &path);
        assert_eq!(
            text(read(&grant, &path, 0, 10)),
            "denied: it leads into /proc"
        );
    }

    #[test]
    fn files_without_a_size_are_read_to_their_end() {
        let (grant, path) = globs("/proc/*", "/proc/version");
        assert!(text(read(&grant, &path, 0, 1 << 20)).contains("Linux"));
    }
}

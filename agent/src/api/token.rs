//! The bearer token that opens the verbs on TCP.

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Name of the file in the data folder.
const FILE_NAME: &str = "token";

/// Random bytes of a token: as many as the digest it is compared by.
const TOKEN_BYTES: usize = 32;

/// Longest token an operator may put there, bytes.
const TOKEN_TEXT_MAX: u64 = 1_024;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or made.
    #[error("{what} the token file {}", path.display())]
    File {
        /// `read`, `write` …
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others can read or replace it.
    #[error(
        "trust the token file {}: it must be a plain file of this user with mode 0600; remove it and start again to get a new one", .0.display()
    )]
    Exposed(PathBuf),
    /// It is too short to protect anything.
    #[error(
        "use the token in {}: it has fewer than 16 characters; remove the file and start again to get a new one", .0.display()
    )]
    Short(PathBuf),
}

/// Only the digest is kept: neither a log nor a core dump can tell the token.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

impl Token {
    /// Takes `text` as the token.
    pub fn of(text: &str) -> Self {
        Token(Sha256::digest(text).into())
    }

    /// Reads the token of this data folder, or makes one at the first start.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, TokenError> {
        let path = data_dir.join(FILE_NAME);
        let failed = |what, source| TokenError::File {
            what,
            path: path.clone(),
            source,
        };
        match create(&path) {
            Ok(token) => return Ok(token),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("write", error)),
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(no_follow())
            .open(&path)
            .map_err(|error| failed("read", error))?;
        let metadata = file.metadata().map_err(|error| failed("read", error))?;
        let ours = metadata.uid() == rustix::process::geteuid().as_raw();
        if !metadata.is_file() || !ours || metadata.mode() & 0o077 != 0 {
            return Err(TokenError::Exposed(path));
        }
        let mut text = String::new();
        file.take(TOKEN_TEXT_MAX)
            .read_to_string(&mut text)
            .map_err(|error| failed("read", error))?;
        let text = text.trim();
        if text.len() < 16 {
            return Err(TokenError::Short(path));
        }
        Ok(Token::of(text))
    }

    /// A token that nobody knows, for a disk that takes none: what needs one is refused.
    pub fn known_to_nobody() -> std::io::Result<Self> {
        let mut digest = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut digest)?;
        Ok(Token(digest))
    }

    /// Whether `given` is the token. Takes the same time wherever the two differ.
    pub fn is(&self, given: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        let differing = self
            .0
            .iter()
            .zip(given)
            .fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(differing) == 0
    }
}

/// Writes a fresh token beside its place and links it there: a reader never sees half a token, and
/// a crash in between leaves none.
fn create(path: &Path) -> std::io::Result<Token> {
    if path.symlink_metadata().is_ok() {
        return Err(std::io::ErrorKind::AlreadyExists.into());
    }
    let mut bytes = [0; TOKEN_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| {
            writeln!(file, "{text}")?;
            file.sync_all()
        })
        .and_then(|()| std::fs::hard_link(&fresh, path));
    let _ = std::fs::remove_file(&fresh);
    written.map(|()| Token::of(&text))
}

fn no_follow() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_start_makes_a_private_token_and_the_second_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let made = Token::load_or_create(folder.path()).unwrap();
        let path = folder.path().join(FILE_NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 64);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let read = Token::load_or_create(folder.path()).unwrap();
        assert!(made.is(text.trim()) && read.is(text.trim()));
        assert!(!read.is("") && !read.is(&text[..63]));
        assert_eq!(format!("{read:?}"), "Token(***)");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn nobody_knows_the_token_of_nobody() {
        let token = Token::known_to_nobody().unwrap();
        assert_ne!(token.0, Token::known_to_nobody().unwrap().0);
        assert!(!token.is(""));
    }

    #[test]
    fn an_exposed_short_or_linked_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let refused = || Token::load_or_create(folder.path()).unwrap_err();
        assert!(matches!(refused(), TokenError::Exposed(_)));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(
            Token::load_or_create(folder.path())
                .unwrap()
                .is("0123456789abcdef")
        );
        std::fs::write(&path, "x\n").unwrap();
        assert!(matches!(refused(), TokenError::Short(_)));
        std::fs::rename(&path, folder.path().join("other")).unwrap();
        std::os::unix::fs::symlink("other", &path).unwrap();
        assert!(matches!(refused(), TokenError::File { what: "read", .. }));
    }
}

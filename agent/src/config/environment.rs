//! What the surroundings say: folders, names, who we are. Read once at start; handed in, so that
//! tests decide for themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The surroundings of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Relative paths of the command line are relative to this.
    pub cwd: PathBuf,
    /// The kernel's name of this host.
    pub hostname: String,
    /// Whether the agent runs as root.
    pub root: bool,
    /// `--data-dir`: wins over the file.
    pub data_dir_override: Option<PathBuf>,
    /// `HOME`, `XDG_CONFIG_HOME`, `XDG_STATE_HOME`, `XDG_RUNTIME_DIR`.
    pub variables: BTreeMap<String, PathBuf>,
}

/// Longest path of a unix socket: `sun_path` has 108 bytes and ends with a zero.
pub(super) const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let variables = [
            "HOME",
            "XDG_CONFIG_HOME",
            "XDG_STATE_HOME",
            "XDG_RUNTIME_DIR",
        ]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), PathBuf::from(std::env::var_os(name)?))))
        // The XDG specification: a relative path is to be ignored.
        .filter(|(_, path)| path.is_absolute())
        .collect();
        let hostname = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        Environment {
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            hostname: if hostname.is_empty() {
                "localhost".to_owned()
            } else {
                hostname
            },
            root: rustix::process::geteuid().is_root(),
            data_dir_override: None,
            variables,
        }
    }

    /// Where a configuration is looked for, in this order.
    pub fn configuration_files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.cwd.join("watchfire.toml")];
        files.extend(
            self.folder("XDG_CONFIG_HOME", ".config")
                .map(|folder| folder.join("watchfire/watchfire.toml")),
        );
        files.push("/etc/watchfire/watchfire.toml".into());
        files
    }

    /// The data folder where the configuration names none.
    pub fn data_dir(&self) -> PathBuf {
        if self.root {
            return "/var/lib/watchfire".into();
        }
        self.folder("XDG_STATE_HOME", ".local/state").map_or_else(
            || self.cwd.join("watchfire-data"),
            |folder| folder.join("watchfire"),
        )
    }

    /// The unix socket where the configuration names none: in the data folder, or in the runtime
    /// folder where that path would be too long for a socket.
    pub(super) fn socket(&self, data_dir: &Path) -> PathBuf {
        let socket = data_dir.join("watchfire.sock");
        match self.variables.get("XDG_RUNTIME_DIR") {
            Some(runtime) if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX => {
                runtime.join("watchfire.sock")
            }
            _ => socket,
        }
    }

    fn folder(&self, variable: &str, under_home: &str) -> Option<PathBuf> {
        self.variables
            .get(variable)
            .cloned()
            .or_else(|| Some(self.variables.get("HOME")?.join(under_home)))
    }
}

//! What is installed: an immutable snapshot, replaced as a whole.

use super::{hex, stock};
use crate::config::{self, PluginRequest};
use crate::sandbox::Component;
use crate::sandbox::types::{Description, Kind};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use watchfire_engine::model::WallTime;

/// Everything that is installed, by name.
#[derive(Clone, Debug, Default)]
pub struct PluginSet {
    /// Components that run and files that were refused.
    pub plugins: BTreeMap<Arc<str>, Plugin>,
}

/// One name: what runs under it, and what would like to.
#[derive(Clone, Debug, Default)]
pub struct Plugin {
    /// What serves; none: nothing ever could.
    pub running: Option<Arc<Installed>>,
    /// The file in the folder that was refused; `running`, if any, is the version before it.
    pub rejected: Option<Rejection>,
    /// The file of `running` is gone; it serves until the next restart.
    pub removed: bool,
}

/// A component that was compiled, loaded and asked who it is.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Its name: the file's or the stock folder's.
    pub name: Arc<str>,
    /// The code.
    pub component: Component,
    /// Where it came from.
    pub origin: Origin,
    /// SHA-256 of the component.
    pub sha256: [u8; 32],
    /// Bytes of the component.
    pub bytes: usize,
    /// Whether it was loaded with all of WASI linked and refusing.
    pub stub_wasi: bool,
    /// What it says of itself. A stranger's text: escape before printing.
    pub description: Description,
    /// Wall time of its compilation; none: its code was in the cache.
    pub compile_time: Option<Duration>,
    /// When it was loaded.
    pub loaded_at: WallTime,
}

/// Where a component came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Embedded in the binary.
    Stock,
    /// A file in the plugin folder.
    DropIn(PathBuf),
}

/// A file that may not serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// What was refused; none: it was not even read.
    pub sha256: Option<[u8; 32]>,
    /// Why, for people.
    pub reason: Arc<str>,
    /// When it was refused first.
    pub since: WallTime,
    /// What was asked of it in vain.
    pub stage: Stage,
}

/// What is asked of a file, in this order. It decides what makes another try worthwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It can be read and nobody else can write it.
    Read,
    /// It is what configuration pins.
    Pin,
    /// It compiles, has a known world, describes itself. The same bytes fail again.
    Load,
    /// As `Load`, but the machine's trouble rather than the bytes'.
    Trouble,
    /// It takes its configuration and survives a trial. Another configuration may do.
    Prove,
}

impl PluginSet {
    /// The component that serves under a name.
    pub fn running(&self, name: &str) -> Option<&Arc<Installed>> {
        self.plugins.get(name)?.running.as_ref()
    }

    /// Why the file of that name was refused.
    pub fn rejection(&self, name: &str) -> Option<&Rejection> {
        self.plugins.get(name)?.rejected.as_ref()
    }

    /// The name of a plugin that serves, or is stock, and is near enough to `name` to be what was meant.
    pub(super) fn nearest(&self, name: &str) -> Option<&str> {
        let installed = self.plugins.iter();
        let installed =
            installed.filter_map(|(name, plugin)| plugin.running.as_ref().map(|_| &**name));
        config::nearest(
            name,
            installed.chain(stock::all().iter().map(|stock| stock.name)),
        )
    }

    /// Whether both hold the same components in the same state.
    pub(super) fn is_same(&self, other: &PluginSet) -> bool {
        let same = |a: &Plugin, b: &Plugin| {
            let running = match (&a.running, &b.running) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (None, None) => true,
                _ => false,
            };
            running && a.rejected == b.rejected && a.removed == b.removed
        };
        self.plugins.len() == other.plugins.len()
            && self
                .plugins
                .iter()
                .zip(&other.plugins)
                .all(|((a, x), (b, y))| a == b && same(x, y))
    }
}

impl Installed {
    /// What it asks for, as a lock holds it.
    pub fn request(&self) -> PluginRequest {
        let (kinds, imports) = (self.component.kinds(), self.component.imports());
        PluginRequest::of(kinds, imports, &self.description.wants)
    }

    /// Whether it has that kind.
    pub fn is(&self, kind: Kind) -> bool {
        self.component.kinds().contains(&kind)
    }
}

/// `running abc123… (file def456… rejected: why)`: one line for people.
impl std::fmt::Display for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.running {
            Some(running) => {
                write!(f, "running {}", short(&running.sha256))?;
                if running.origin == Origin::Stock {
                    f.write_str(", stock")?;
                }
                if self.removed {
                    f.write_str(", its file is gone: serves until the next restart")?;
                }
            }
            None => f.write_str("not running")?,
        }
        match &self.rejected {
            Some(Rejection {
                sha256: Some(sha256),
                reason,
                ..
            }) => write!(f, " (file {} rejected: {reason})", short(sha256)),
            Some(Rejection { reason, .. }) => write!(f, " (file rejected: {reason})"),
            None => Ok(()),
        }
    }
}

/// The first six bytes of a hash: enough to tell versions apart.
pub fn short(sha256: &[u8; 32]) -> String {
    hex(&sha256[..6])
}

//! Turns the bytes of a component into one that can be called: code cache or compiler, sandbox, `describe`.

use super::cache::{Artefact, CacheKey, CodeCache};
use super::compile::{CompileFailure, Compiler};
use super::folder::{self, ReadError};
use super::registry::{Installed, Origin, Stage};
use super::stock::Stock;
use crate::sandbox::types::CallError;
use crate::sandbox::{Component, LoadError, Sandbox};
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use watchfire_engine::model::WallTime;

/// A component that wants to be installed.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) name: Arc<str>,
    pub(super) origin: Origin,
    pub(super) bytes: Bytes,
    pub(super) sha256: [u8; 32],
    pub(super) stub_wasi: bool,
}

/// The bytes of a component.
#[derive(Clone, Debug)]
pub(super) enum Bytes {
    /// In the binary, packed; untouched pages cost nothing.
    Embedded(&'static Stock),
    /// Read from a file.
    Read(Arc<[u8]>),
    /// In a file of so many bytes, which is read again: many large files together do not fit into the memory.
    There(PathBuf, usize),
}

impl Bytes {
    /// The component itself, which has this digest.
    async fn get(&self, sha256: &[u8; 32]) -> Result<Cow<'_, [u8]>, ReadError> {
        match self {
            Bytes::Embedded(stock) => Ok(stock.bytes().into()),
            Bytes::Read(bytes) => Ok(Cow::Borrowed(bytes)),
            Bytes::There(path, _) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || folder::read(&path)).await;
                let content = match read {
                    Ok(content) => content?,
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                };
                match content.bytes {
                    Some(bytes) if content.sha256 == *sha256 => Ok(bytes.to_vec().into()),
                    _ => Err(ReadError::Changing),
                }
            }
        }
    }

    /// Bytes of the component.
    pub(super) fn len(&self) -> usize {
        match self {
            Bytes::Embedded(stock) => stock.size(),
            Bytes::Read(bytes) => bytes.len(),
            Bytes::There(_, size) => *size,
        }
    }
}

/// Why a component cannot be installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadFailure {
    /// It is not there any more as it was.
    #[error(transparent)]
    Read(ReadError),
    /// The compiler's child said no, or died.
    #[error(transparent)]
    Compile(CompileFailure),
    /// It does not fit: imports, exports, kinds.
    #[error(transparent)]
    Load(LoadError),
    /// It cannot say who it is.
    #[error("its describe failed: {0}")]
    Describe(CallError),
}

impl LoadFailure {
    /// Whether another try with the same bytes is worthwhile.
    pub(super) fn stage(&self) -> Stage {
        match self {
            LoadFailure::Read(_) => Stage::Trouble,
            LoadFailure::Compile(failure) if !failure.is_final() => Stage::Trouble,
            _ => Stage::Load,
        }
    }

    /// Whether the bytes may be the first half of something good.
    pub(super) fn may_be_half(&self) -> bool {
        matches!(
            self,
            LoadFailure::Read(_) | LoadFailure::Compile(CompileFailure::Refused(_))
        )
    }
}

/// The way from bytes to [`Installed`].
pub(super) struct Loader {
    sandbox: Sandbox,
    compiler: Compiler,
    /// None: the folder cannot be trusted, everything is compiled anew.
    cache: Option<Arc<CodeCache>>,
    /// The sandbox's part of the cache's keys.
    compatibility: [u8; 32],
}

impl Loader {
    pub(super) fn new(
        sandbox: Sandbox,
        compiler: Compiler,
        cache: Option<CodeCache>,
        compatibility: [u8; 32],
    ) -> Self {
        Loader {
            sandbox,
            compiler,
            cache: cache.map(Arc::new),
            compatibility,
        }
    }

    pub(super) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// Loads one component, compiling it where the cache does not have it.
    pub(super) async fn load(&self, candidate: &Candidate) -> Result<Installed, LoadFailure> {
        let started = Instant::now();
        let mut compile_time = None;
        let component = match self.cached(candidate).await {
            Some(component) => component,
            None => {
                let bytes = candidate.bytes.get(&candidate.sha256).await;
                let bytes = bytes.map_err(LoadFailure::Read)?;
                let artefact = self.compiler.compile(&bytes).await;
                let artefact = artefact.map_err(LoadFailure::Compile)?;
                compile_time = Some(started.elapsed());
                self.link(candidate, Code::New(artefact))
                    .await
                    .map_err(LoadFailure::Load)?
            }
        };
        let description = component.describe().await.map_err(LoadFailure::Describe)?;
        tracing::debug!(
            plugin = &*candidate.name,
            sha256 = super::registry::short(&candidate.sha256),
            cached = compile_time.is_none(),
            millis = millis(started.elapsed()),
            "component loaded"
        );
        Ok(Installed {
            name: candidate.name.clone(),
            component,
            origin: candidate.origin.clone(),
            sha256: candidate.sha256,
            bytes: candidate.bytes.len(),
            stub_wasi: candidate.stub_wasi,
            description,
            compile_time,
            loaded_at: wall_time(),
        })
    }

    async fn cached(&self, candidate: &Candidate) -> Option<Component> {
        let cache = self.cache.clone()?;
        let key = CacheKey::new(&candidate.sha256, &self.compatibility);
        let artefact = tokio::task::spawn_blocking(move || cache.read(&key))
            .await
            .ok()??;
        match self.link(candidate, Code::Cached(artefact)).await {
            Ok(component) => Some(component),
            // A refused world is refused again after the compilation, with the right words; what is
            // never kept is code that does not load.
            Err(error) => {
                tracing::debug!(plugin = &*candidate.name, %error, "cached code does not load; compiling again");
                if let Some(cache) = &self.cache {
                    cache.forget(&key);
                }
                None
            }
        }
    }

    /// Loads code into the sandbox; what is new and loads goes into the cache.
    async fn link(&self, candidate: &Candidate, code: Code) -> Result<Component, LoadError> {
        let sandbox = self.sandbox.clone();
        let cache = self.cache.clone();
        let key = CacheKey::new(&candidate.sha256, &self.compatibility);
        let (name, sha256) = (candidate.name.clone(), candidate.sha256);
        let stub_wasi = candidate.stub_wasi;
        let loaded = tokio::task::spawn_blocking(move || {
            let file = cache.as_ref().and_then(|cache| cache.unnamed(&code));
            let component = match file {
                Some(file) => sandbox.load_mapped(&name, sha256, &code, &file, stub_wasi)?,
                None => sandbox.load(&name, sha256, &code, stub_wasi)?,
            };
            if let (Code::New(artefact), Some(cache)) = (&code, cache)
                && let Err(error) = cache.write(&key, artefact)
            {
                tracing::warn!(plugin = &*name, error = %super::chain(&error), "compiled code is not cached; the next start compiles again");
            }
            Ok(component)
        });
        match loaded.await {
            Ok(result) => result,
            // The task is never aborted, so it panicked: a defect of ours, which must not be hidden.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Native code of a component.
enum Code {
    New(Vec<u8>),
    Cached(Artefact),
}

impl std::ops::Deref for Code {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Code::New(artefact) => artefact,
            Code::Cached(artefact) => artefact,
        }
    }
}

/// The wall clock.
pub(super) fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    WallTime(since.map_or(0, millis))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

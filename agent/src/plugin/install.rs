//! Carries out the survey's plan: loads what is new, and says which set of components there is then.

use super::load::{Candidate, LoadFailure, Loader};
use super::registry::{Installed, Origin, Plugin, PluginSet, Rejection, Stage};
use super::stock;
use super::survey::{Survey, Want};
use crate::config::Config;
use futures_util::{StreamExt, stream};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Components on their way at the same time. The compiler lets fewer through; the others come from the cache.
const LOADS_AT_ONCE: usize = 4;

/// Components loaded in one look, by name, hash and way of linking: a second attempt of the same look takes
/// them as they are.
pub(super) type Fresh = BTreeMap<(Arc<str>, [u8; 32], bool), Arc<Installed>>;

/// What a plan is carried out with.
pub(super) struct Install<'a> {
    pub(super) loader: &'a Loader,
    pub(super) survey: &'a mut Survey,
    pub(super) loaded: &'a mut Fresh,
    pub(super) config: &'a Config,
    pub(super) running: &'a PluginSet,
    /// Whether a file that does not load may still be growing.
    pub(super) hasty: bool,
}

impl Install<'_> {
    /// The set of components after the plan, as far as loading goes.
    pub(super) async fn carry_out(mut self, wants: BTreeMap<Arc<str>, Want>) -> PluginSet {
        let mut set = PluginSet::default();
        let mut candidates = Vec::new();
        for (name, want) in wants {
            let before = self.running.plugins.get(&name);
            let mut plugin = Plugin {
                running: before.and_then(|before| before.running.clone()),
                ..Plugin::default()
            };
            match want {
                Want::Keep => {}
                Want::Wait => plugin.rejected = before.and_then(|before| before.rejected.clone()),
                Want::Removed => plugin.removed = true,
                Want::Refuse(rejection) => {
                    plugin.rejected = Some(rejection);
                    candidates.extend(self.substitute(&name, &plugin));
                }
                Want::Load(candidate) => candidates.push(candidate),
            }
            set.plugins.insert(name, plugin);
        }
        // A drop-in that does not load may have a stock plugin behind it, so there are two turns at most.
        while !candidates.is_empty() {
            for (candidate, result) in self.load(std::mem::take(&mut candidates)).await {
                let name = candidate.name.clone();
                let plugin = set.plugins.entry(name.clone()).or_default();
                match result {
                    Ok(installed) if let Some(reason) = self.widened(&installed) => {
                        let sha256 = Some(candidate.sha256);
                        let (stage, config) = (Stage::Prove, self.config);
                        let refused = self.survey.refuse(&name, sha256, reason, stage, config);
                        plugin.rejected = Some(refused);
                        candidates.extend(self.substitute(&name, plugin));
                    }
                    Ok(installed) => {
                        let key = (name, candidate.sha256, candidate.stub_wasi);
                        plugin.running = Some(installed.clone());
                        self.loaded.insert(key, installed);
                    }
                    Err(failure) => {
                        plugin.rejected = self.refuse(&candidate, &failure);
                        candidates.extend(self.substitute(&name, plugin));
                    }
                }
            }
        }
        // A new file that is still in doubt is nothing yet.
        set.plugins
            .retain(|_, plugin| plugin.running.is_some() || plugin.rejected.is_some());
        set
    }

    async fn load(
        &self,
        candidates: Vec<Candidate>,
    ) -> Vec<(Candidate, Result<Arc<Installed>, LoadFailure>)> {
        let (loader, loaded) = (self.loader, &*self.loaded);
        // Collected first: a stream of futures made lazily is not known to be `Send`.
        let loads: Vec<_> = candidates
            .into_iter()
            .map(|candidate| async move {
                let key = (
                    candidate.name.clone(),
                    candidate.sha256,
                    candidate.stub_wasi,
                );
                let result = match loaded.get(&key) {
                    Some(installed) => Ok(installed.clone()),
                    None => loader.load(&candidate).await.map(Arc::new),
                };
                (candidate, result)
            })
            .collect();
        stream::iter(loads)
            .buffer_unordered(LOADS_AT_ONCE)
            .collect()
            .await
    }

    /// The stock plugin of that name, where nothing else serves and it was not what failed.
    fn substitute(&mut self, name: &Arc<str>, plugin: &Plugin) -> Option<Candidate> {
        let stock = stock::find(name)?;
        let failed = plugin.rejected.as_ref().and_then(|failed| failed.sha256);
        if plugin.running.is_some() || failed == Some(stock.sha256) {
            return None;
        }
        match self.survey.plan_stock(name, self.config, self.running) {
            Some(Want::Load(candidate)) => Some(candidate),
            _ => None,
        }
    }

    /// Why the lock does not cover what a file says of itself.
    fn widened(&self, installed: &Installed) -> Option<Arc<str>> {
        let lock = self.config.lock.as_ref()?;
        if installed.origin == Origin::Stock {
            return None;
        }
        let reason = lock.widened(&installed.name, &installed.request())?;
        Some(super::plain(&reason).into())
    }

    /// None: it may be half-written, and the verdict is put off.
    fn refuse(&mut self, candidate: &Candidate, failure: &LoadFailure) -> Option<Rejection> {
        let reason: Arc<str> = super::plain(&super::chain(failure)).into();
        let (name, sha256) = (&candidate.name, Some(candidate.sha256));
        if self.hasty && failure.may_be_half() {
            self.survey.doubt(name, sha256, reason);
            return None;
        }
        let stage = failure.stage();
        Some(self.survey.refuse(name, sha256, reason, stage, self.config))
    }
}

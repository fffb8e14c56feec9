//! `control` (being written).
use super::HostState;
use crate::sandbox::bindings::wit;
type Answer<T> = wasmtime::Result<Result<T, wit::types::Error>>;
impl wit::control::Host for HostState {
    async fn service(&mut self, _: String, _: wit::control::Verb) -> Answer<()> {
        let charged = self.charge()?;
        let refused = self.using.denied("control", "services = []");
        self.answer(charged, Err(refused))
    }
    async fn signal_process(&mut self, _: u32, _: u64, _: String) -> Answer<()> {
        let charged = self.charge()?;
        let refused = self.using.denied("control", "signals = []");
        self.answer(charged, Err(refused))
    }
    async fn delete_older(&mut self, _: String, _: u64) -> Answer<u64> {
        let charged = self.charge()?;
        let refused = self.using.denied("control", "delete = []");
        self.answer(charged, Err(refused))
    }
}

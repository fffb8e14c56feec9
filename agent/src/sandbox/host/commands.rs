//! `commands` (being written).
use super::HostState;
use crate::sandbox::bindings::wit;
impl wit::commands::Host for HostState {
    async fn run(
        &mut self,
        _: String,
        _: Vec<String>,
        _: Vec<u8>,
    ) -> wasmtime::Result<Result<wit::commands::Output, wit::types::Error>> {
        let charged = self.charge()?;
        let refused = self.using.denied("commands", "commands = []");
        self.answer(charged, Err(refused))
    }
}

//! `files` (being written).
use super::HostState;
use crate::sandbox::bindings::wit;
type Answer<T> = wasmtime::Result<Result<T, wit::types::Error>>;
impl wit::files::Host for HostState {
    async fn read(&mut self, _: String, _: u64, _: u32) -> Answer<wit::files::Chunk> {
        let charged = self.charge()?;
        let refused = self.using.denied("files", "files = []");
        self.answer(charged, Err(refused))
    }
    async fn stat(&mut self, _: String) -> Answer<Option<wit::files::Metadata>> {
        let charged = self.charge()?;
        let refused = self.using.denied("files", "files = []");
        self.answer(charged, Err(refused))
    }
    async fn listing(&mut self, _: String) -> Answer<Vec<String>> {
        let charged = self.charge()?;
        let refused = self.using.denied("files", "files = []");
        self.answer(charged, Err(refused))
    }
}

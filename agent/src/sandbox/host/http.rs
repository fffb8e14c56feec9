//! `http`: until the network side is merged, nothing is granted.

use super::HostState;
use crate::sandbox::bindings::wit;

impl wit::http::Host for HostState {
    async fn send(
        &mut self,
        request: wit::http::Request,
    ) -> wasmtime::Result<Result<wit::http::Response, wit::types::Error>> {
        let charged = self.charge()?;
        let refused = self.using.denied(&request.url, "http = [\"…\"]");
        self.answer(charged, Err(refused))
    }
}

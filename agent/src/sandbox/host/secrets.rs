//! The interface `secrets`: a value itself, for protocols that compute with one (SCRAM, SigV4, HMAC).
//!
//! Where the rules are: [`sandbox::secrets`](crate::sandbox::secrets).

use super::HostState;
use crate::sandbox::bindings::wit;

impl wit::secrets::Host for HostState {
    async fn reveal(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<String, wit::types::Error>> {
        let charged = self.charge()?;
        let revealed = self.using.reach.secrets.reveal(&name).await;
        self.answer(charged, revealed)
    }
}

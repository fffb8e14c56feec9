//! `tcp`: until the network side is merged, nothing is granted.

use super::HostState;
use crate::sandbox::bindings::wit;
use wasmtime::component::Resource;

/// What stands behind the guest's `connection`.
pub struct Connection;

type Answer<T> = wasmtime::Result<Result<T, wit::types::Error>>;

impl HostState {
    fn no_tcp<T>(&mut self, to: &str) -> Answer<T> {
        let charged = self.charge()?;
        let refused = self.using.denied(to, "tcp = [\"…\"]");
        self.answer(charged, Err(refused))
    }
}

impl wit::tcp::Host for HostState {
    async fn connect(
        &mut self,
        host: String,
        _: u16,
        _: Option<wit::tcp::Tls>,
        _: u32,
    ) -> Answer<Resource<Connection>> {
        self.no_tcp(&host)
    }

    async fn connect_unix(&mut self, path: String, _: u32) -> Answer<Resource<Connection>> {
        self.no_tcp(&path)
    }
}

impl wit::tcp::HostConnection for HostState {
    async fn elapsed_us(&mut self, _: Resource<Connection>) -> wasmtime::Result<u64> {
        Ok(0)
    }

    async fn certificate_seconds_left(
        &mut self,
        _: Resource<Connection>,
    ) -> wasmtime::Result<Option<i64>> {
        Ok(None)
    }

    async fn send(&mut self, _: Resource<Connection>, _: Vec<u8>) -> Answer<()> {
        self.no_tcp("tcp")
    }

    async fn send_filled(&mut self, _: Resource<Connection>, _: Vec<u8>) -> Answer<()> {
        self.no_tcp("tcp")
    }

    async fn receive(&mut self, _: Resource<Connection>, _: u32, _: u32) -> Answer<Vec<u8>> {
        self.no_tcp("tcp")
    }

    async fn start_tls(&mut self, _: Resource<Connection>, _: wit::tcp::Tls) -> Answer<()> {
        self.no_tcp("tcp")
    }

    async fn drop(&mut self, _: Resource<Connection>) -> wasmtime::Result<()> {
        Ok(())
    }
}

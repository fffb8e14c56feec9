//! What one store may hold, and where a guest's stdout and stderr go.

use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use wasmtime::{ResourceLimiter, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Elements of one table: a large program has some thousand functions to point at.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Core instances of one store: a wasip2 component of Rust has about five, of Python about thirty.
pub(crate) const INSTANCES_MAX: usize = 64;
/// Tables of one store; as many as instances.
pub(crate) const TABLES_MAX: usize = 64;
/// Linear memories of one store: the program's and those of adapters.
pub(crate) const MEMORIES_MAX: usize = 8;
/// Bytes kept of what a guest writes to stdout and stderr, the last ones: a panic message stands at the end.
const OUTPUT_BYTES_MAX: usize = 4 << 10;

/// Limits one store. `StoreLimits` alone would hold each memory against the cap by itself, so that
/// eight memories would have eight times as much; this one adds them up.
pub(crate) struct Budget {
    counts: StoreLimits,
    memory_bytes: usize,
    memory_bytes_max: usize,
    /// Whether a memory was refused to grow: a guest then aborts with a trap that does not say why.
    pub(crate) refused: bool,
}

/// Takes whatever a guest writes, never blocks it, never tells it to stop, and keeps the end.
/// (A pipe that closes when full makes `println!` panic.)
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Vec<u8>>>);

impl Budget {
    /// `memory_bytes_max` counts all linear memories together.
    pub(crate) fn new(memory_bytes_max: usize) -> Self {
        Budget {
            counts: StoreLimitsBuilder::new()
                .table_elements(TABLE_ELEMENTS_MAX)
                .instances(INSTANCES_MAX)
                .tables(TABLES_MAX)
                .memories(MEMORIES_MAX)
                .build(),
            memory_bytes: 0,
            memory_bytes_max,
            refused: false,
        }
    }

    /// Bytes of all linear memories. They never shrink, so this is the peak.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .memory_bytes
            .saturating_sub(current)
            .saturating_add(desired);
        if total > self.memory_bytes_max {
            self.refused = true;
            return Ok(false);
        }
        let allowed = self.counts.memory_growing(current, desired, maximum)?;
        if allowed {
            self.memory_bytes = total;
        }
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.counts.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.counts.instances()
    }

    fn tables(&self) -> usize {
        self.counts.tables()
    }

    fn memories(&self) -> usize {
        self.counts.memories()
    }
}

impl Output {
    /// What was kept, as text; empty where nothing was written.
    pub(crate) fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A cut in the middle of a letter leaves broken bytes at the start.
        String::from_utf8_lossy(&kept)
            .trim_matches(|c: char| c.is_whitespace() || c == '\u{fffd}')
            .to_owned()
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = &bytes[bytes.len().saturating_sub(OUTPUT_BYTES_MAX)..];
        let over = (kept.len() + bytes.len()).saturating_sub(OUTPUT_BYTES_MAX);
        kept.drain(..over);
        kept.extend_from_slice(bytes);
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    // The default wraps `async_stream` in a task of its own: two tasks a call for nothing.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl Pollable for Output {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

impl tokio::io::AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_added_up() {
        let mut budget = Budget::new(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(budget.memory_growing(0, 30, None).unwrap());
        assert!(!budget.memory_growing(60, 80, None).unwrap());
        assert!(budget.refused);
        assert!(budget.memory_growing(60, 70, None).unwrap());
        assert_eq!(budget.memory_bytes(), 100);
    }

    #[test]
    fn output_keeps_the_end() {
        let output = Output::default();
        output.push(&vec![b'x'; OUTPUT_BYTES_MAX]);
        output.push("ünd so ".as_bytes());
        output.push("weiter\n".as_bytes());
        let text = output.text();
        assert!(text.ends_with("xünd so weiter"), "{text}");
        assert!(text.len() <= OUTPUT_BYTES_MAX);
    }
}

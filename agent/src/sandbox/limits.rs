//! What one store may hold, and where a guest's stdout and stderr go.

use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
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
/// Linear memories of one store: the program's and those of adapters; one or two are usual.
pub(crate) const MEMORIES_MAX: usize = 8;
/// Bytes that a call has for itself, whatever others hold: five times what a plugin in Rust takes.
pub(crate) const OWN_BYTES: usize = 8 << 20;
/// Bytes beyond [`OWN_BYTES`] that all calls of the agent hold together at most: eight of the default size. One call
/// may always have what its own limit says.
pub(crate) const TOGETHER_BYTES_MAX: usize = 512 << 20;
/// Bytes kept of what a guest writes to stdout and stderr, the last ones: a panic message stands at the end.
const OUTPUT_BYTES_MAX: usize = 4 << 10;

/// Limits one store. `StoreLimits` alone would hold each memory against the cap by itself, so that
/// eight memories would have eight times as much; this one adds them up, and those of all calls.
pub(crate) struct Budget {
    counts: StoreLimits,
    memory_bytes: usize,
    memory_bytes_max: usize,
    together: Arc<Together>,
    /// Whether and why a memory was refused to grow: a guest then aborts with a trap that does not say so.
    pub(crate) refused: Option<Short>,
}

/// Whose memory is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    /// The call's own.
    Own,
    /// That of all calls together.
    Together,
}

/// What all calls hold beyond [`OWN_BYTES`] each.
#[derive(Debug, Default)]
pub(crate) struct Together(AtomicUsize);

/// Takes whatever a guest writes, never blocks it, never tells it to stop, and keeps the end.
/// (A pipe that closes when full makes `println!` panic.)
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Vec<u8>>>);

impl Budget {
    /// `memory_bytes_max` counts all linear memories of the store together.
    pub(crate) fn new(memory_bytes_max: usize, together: Arc<Together>) -> Self {
        Budget {
            counts: StoreLimitsBuilder::new()
                .table_elements(TABLE_ELEMENTS_MAX)
                .instances(INSTANCES_MAX)
                .tables(TABLES_MAX)
                .memories(MEMORIES_MAX)
                .build(),
            memory_bytes: 0,
            memory_bytes_max,
            together,
            refused: None,
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
            self.refused = Some(Short::Own);
            return Ok(false);
        }
        if !self.counts.memory_growing(current, desired, maximum)? {
            return Ok(false);
        }
        let more = beyond(total) - beyond(self.memory_bytes);
        let bytes_max = TOGETHER_BYTES_MAX.max(self.memory_bytes_max);
        if !self.together.take(more, bytes_max) {
            self.refused = Some(Short::Together);
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
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

impl Drop for Budget {
    fn drop(&mut self) {
        self.together.give_back(beyond(self.memory_bytes));
    }
}

impl Together {
    fn take(&self, bytes: usize, bytes_max: usize) -> bool {
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                let held = held.saturating_add(bytes);
                (bytes == 0 || held <= bytes_max).then_some(held)
            });
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The part of a call's memory that is everybody's.
fn beyond(bytes: usize) -> usize {
    bytes.saturating_sub(OWN_BYTES)
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
        let mut budget = Budget::new(100, Arc::default());
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(budget.memory_growing(0, 30, None).unwrap());
        assert!(!budget.memory_growing(60, 80, None).unwrap());
        assert_eq!(budget.refused, Some(Short::Own));
        assert!(budget.memory_growing(60, 70, None).unwrap());
        assert_eq!(budget.memory_bytes(), 100);
    }

    #[test]
    fn all_calls_share_what_is_beyond_their_own() {
        let together = Arc::new(Together::default());
        let large = 64 << 20;
        let budget = || Budget::new(large, Arc::clone(&together));
        let mut all: Vec<Budget> = (0..64).map(|_| budget()).collect();
        // Everybody has his own.
        for budget in &mut all {
            assert!(budget.memory_growing(0, OWN_BYTES, None).unwrap());
        }
        let full = all
            .iter_mut()
            .filter_map(|budget| budget.memory_growing(OWN_BYTES, large, None).ok())
            .filter(|grown| *grown)
            .count();
        assert_eq!(full, TOGETHER_BYTES_MAX / (large - OWN_BYTES));
        assert_eq!(all[63].refused, Some(Short::Together));
        assert_eq!(all[63].memory_bytes(), OWN_BYTES);
        // What one gives back, another has.
        all.remove(0);
        let last = all.last_mut().unwrap();
        assert!(last.memory_growing(OWN_BYTES, large, None).unwrap());
        drop(all);
        assert_eq!(together.0.load(Ordering::Relaxed), 0);
        // A plugin that may have more than all together has it, alone.
        let mut huge = Budget::new(1 << 30, Arc::clone(&together));
        assert!(huge.memory_growing(0, 1 << 30, None).unwrap());
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

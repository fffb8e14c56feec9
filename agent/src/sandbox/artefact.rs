//! Components to native code and back. The one module whose `unsafe` believes anything: native code. (`executable.rs`
//! asks the kernel one question, `heap.rs` gives memory back.)
//!
//! ```text
//!   bytes of a stranger --compile()--> artefact --(written and authenticated by the caller)--> revive()
//! ```
//!
//! Invariant: [`revive`] gets nothing but what [`compile`] of the same build made and what the caller
//! authenticated since (the code cache keeps a MAC over each artefact). An artefact is executed as it
//! stands; a forged one is code of its author in the agent. No plugin folder is ever read as artefact.

use super::component::{self, Refusal};
use super::engine::{self, EngineError, Settings};
use super::types::Kind;
use rustix::mm::Advice;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes of a component: Python's are 18 MiB. Compiling is not covered by wasmtime's promise of safety,
/// so what is larger is not even parsed.
pub const COMPONENT_BYTES_MAX: usize = 32 << 20;

/// Bytes of a mapped piece of compiled code, at least a page. Of the 281 KiB of a small plugin 146 are mapped after
/// some rounds with pieces of 8 KiB, 192 with 16, and 266 undivided.
const PIECE_BYTES: usize = 8 << 10;
/// Pieces of one component: the kernel allows a process 65,530 mappings and takes about 200 bytes for each. Code of
/// more than half a MiB has larger pieces.
const PIECES_MAX: usize = 64;

/// A component that cannot be used. The text teaches its author.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Too large.
    #[error("it has {0} bytes, more than {COMPONENT_BYTES_MAX}")]
    TooLarge(usize),
    /// Not a component in binary form.
    #[error("{0}")]
    NotAComponent(&'static str),
    /// Invalid, or a feature that is switched off.
    #[error("it does not compile: {0}")]
    Invalid(String),
    /// It compiles and serves nothing here.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The compiler itself failed.
    #[error("the compiler failed on it; please report this")]
    Panicked,
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Compiles a component. Only for the compiling child process and for tests: the compiler takes tens
/// of megabytes that a process does not give back, and a hostile component can make it take long.
///
/// # Errors
/// See [`CompileError`]; each says what is wrong with the file and what to do instead.
pub fn compile(bytes: &[u8], settings: Settings) -> Result<Vec<u8>, CompileError> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(CompileError::TooLarge(bytes.len()));
    }
    if let Some(what) = not_a_component(bytes) {
        return Err(CompileError::NotAComponent(what));
    }
    let engine = engine::exact(settings)?;
    let made = catch_unwind(AssertUnwindSafe(|| {
        let component = Component::from_binary(&engine, bytes)
            .map_err(|error| CompileError::Invalid(format!("{error:#}")))?;
        component::kinds(&component)?;
        let artefact = component.serialize();
        artefact.map_err(|error| CompileError::Invalid(format!("{error:#}")))
    }));
    made.unwrap_or(Err(CompileError::Panicked))
}

/// Tells artefacts apart that must not be mixed: SHA-256 over wasmtime's full version and settings,
/// the processor's features it compiled for, and this agent's version.
///
/// # Errors
/// No engine on this system.
pub fn compatibility_key(settings: Settings) -> Result<[u8; 32], EngineError> {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0
        }
    }
    let engine = engine::exact(settings)?;
    let mut sha = Sha(Sha256::new());
    // The hash covers wasmtime's full version; what stands in the artefact is its major number only.
    engine.precompile_compatibility_hash().hash(&mut sha);
    sha.0.update(env!("CARGO_PKG_VERSION"));
    // The interfaces that a component is linked against.
    sha.0.update(Kind::ALL.map(Kind::name).concat());
    Ok(sha.0.finalize().into())
}

/// What a file is that is no binary component.
fn not_a_component(bytes: &[u8]) -> Option<&'static str> {
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if bytes.starts_with(COMPONENT) {
        return None;
    }
    let text = bytes.trim_ascii_start();
    Some(if bytes.is_empty() {
        "the file is empty"
    } else if bytes.starts_with(MODULE) {
        "it is a core module, not a component: build it with `cargo build --release --target wasm32-wasip2`, or wrap it with `wasm-tools component new`"
    } else if bytes.starts_with(b"\0asm") {
        "it is a component of another binary version: build it with a current toolchain"
    } else if text.starts_with(b"(") || text.starts_with(b";;") {
        "it is WebAssembly text: translate it with `wasm-tools parse plugin.wat -o plugin.wasm`"
    } else if bytes.starts_with(b"\x7fELF") {
        "it is native code: plugins are components in binary form, precompiled ones are never loaded"
    } else {
        "it is no WebAssembly component"
    })
}

/// Turns an artefact into a component. `file` holds the same bytes and has no name: mapped pages cost
/// memory only where they are used (see [`divide`]) and are the kernel's to take back, while a copy costs all of it.
/// Where it cannot be mapped (no `/proc`, a folder mounted `noexec`), the artefact is copied. Tells whether it was mapped.
///
/// # Errors
/// An artefact of another engine, or a damaged one: compile again.
pub(super) fn revive(
    engine: &Engine,
    artefact: &[u8],
    file: Option<&File>,
) -> wasmtime::Result<(Component, bool)> {
    if let Some(file) = file {
        match map(engine, file) {
            Ok(component) => return Ok((component, true)),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::debug!(error, "compiled code cannot be mapped: it is copied");
            }
        }
    }
    #[expect(
        unsafe_code,
        reason = "wasmtime cannot check native code; the invariant of this module does: own compiler, authenticated bytes, private copy"
    )]
    // SAFETY: the bytes come from `compile` of this build with the same settings, and the caller
    // authenticated them after reading them whole into memory that nobody else can write.
    unsafe {
        Component::deserialize(engine, artefact).map(|component| (component, false))
    }
}

/// Takes the code of a component that was mapped out of the page tables: what ran once (`describe`, `configure`) stays out,
/// the rest comes back by faults from the page cache.
pub(super) fn unmap(mapped: &Component) {
    let range = mapped.image_range();
    #[expect(
        unsafe_code,
        reason = "the kernel's promise about clean pages of a file cannot be put into types"
    )]
    // SAFETY: the range is a private mapping of a file, alive while `mapped` is borrowed, and wasmtime writes nothing to it
    // (a test looks for private copies of its pages), so each page reads as before when it is touched again.
    let done = unsafe {
        let bytes = range.end.addr() - range.start.addr();
        rustix::mm::madvise(range.start.cast_mut().cast(), bytes, Advice::LinuxDontNeed)
    };
    if let Err(error) = done {
        tracing::debug!(%error, "compiled code stays mapped");
    }
}

fn map(engine: &Engine, file: &File) -> wasmtime::Result<Component> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    #[expect(
        unsafe_code,
        reason = "as above; and nobody can open a file without a name, so nobody overwrites what is mapped"
    )]
    // SAFETY: the caller wrote the authenticated bytes into the file, which has no name and never gets one.
    let component = unsafe { Component::deserialize_file(engine, path) }?;
    divide(&component);
    Ok(component)
}

/// Cuts the mapping into pieces, so that a page that is touched brings its piece with it and no more: the kernel maps
/// what it has cached around such a page, 64 KiB of it, but not beyond the end of a mapping, and takes all of that for
/// used from then on. A call of a small plugin touches something in each 64 KiB of its code, and half of it in all.
fn divide(mapped: &Component) {
    let range = mapped.image_range();
    let bytes = range.end.addr() - range.start.addr();
    let unit = PIECE_BYTES.max(rustix::param::page_size());
    let piece = bytes.div_ceil(PIECES_MAX).next_multiple_of(unit);
    // Mappings that differ in something stay apart, so every other piece is left out of core dumps.
    for offset in (0..bytes).step_by(2 * piece) {
        #[expect(
            unsafe_code,
            reason = "an address inside of a mapping cannot be put into types"
        )]
        // SAFETY: the piece lies inside of the mapping, which lives as long as `mapped` is borrowed, and what is left out
        // of a core dump is as usable as before.
        let done = unsafe {
            let start = range.start.cast_mut().byte_add(offset).cast();
            rustix::mm::madvise(start, piece.min(bytes - offset), Advice::LinuxDontDump)
        };
        if let Err(error) = done {
            tracing::debug!(%error, "compiled code stays in one piece");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_component_are_told_what_they_are() {
        for (bytes, told) in [
            (&b""[..], "empty"),
            (b"\0asm\x01\0\0\0", "core module"),
            (b"\0asm\x0a\0\x01\0", "another binary version"),
            (b"  (component)", "WebAssembly text"),
            (b"(module)", "WebAssembly text"),
            (b"\x7fELF\x02", "native code"),
            (b"#!/bin/sh", "no WebAssembly component"),
        ] {
            let refused = compile(bytes, Settings::default()).unwrap_err().to_string();
            assert!(refused.contains(told), "{refused}");
        }
    }

    #[test]
    fn a_component_without_our_exports_is_told_so() {
        let empty = b"\0asm\x0d\0\x01\0";
        let refused = compile(empty, Settings::default()).unwrap_err().to_string();
        assert!(refused.contains("it exports none of"), "{refused}");
    }

    #[test]
    fn truncated_and_scrambled_components_are_refused() {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        bytes.extend_from_slice(&[1, 200, 3, 4, 5, 6]);
        let refused = compile(&bytes, Settings::default()).unwrap_err();
        assert!(matches!(refused, CompileError::Invalid(_)), "{refused}");
    }

    #[test]
    fn size_is_judged_first() {
        let large = vec![0; COMPONENT_BYTES_MAX + 1];
        let refused = compile(&large, Settings::default()).unwrap_err();
        assert!(matches!(refused, CompileError::TooLarge(_)), "{refused}");
    }

    #[test]
    fn keys_differ_by_settings() {
        let small = Settings {
            small_address_space: true,
            ..Settings::default()
        };
        let interpreted = Settings {
            interpreter: true,
            ..Settings::default()
        };
        let large = compatibility_key(Settings::default()).unwrap();
        assert_ne!(large, compatibility_key(small).unwrap());
        // Without the interpreter there may be no such key at all.
        assert_ne!(Some(large), compatibility_key(interpreted).ok());
        assert_eq!(large, compatibility_key(Settings::default()).unwrap());
    }
}

//! Gives memory back that lies idle: what the start needed, and what a storm of alerts needed.
//!
//! glibc keeps freed memory that does not lie at the end of an arena for as long as the process lives.
//! Measured after ten minutes of host monitoring: 0.6 of 6.3 MiB of the heap; after a storm of 5,000
//! alerts: most of 190 MiB. Code of the program that ran only at the start stays mapped until somebody is short
//! of memory: 1.8 MiB.

use crate::plugin::Generation;
use crate::store::StateStore;
use rustix::mm::Advice;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A storm's memory is back within a minute or two; the faults to get some of it again cost less than
/// 0.1 ms.
const EVERY: Duration = Duration::from_secs(60);

/// A disk that hangs holds up what the store keeps in memory, not the rest.
const STORE_MAX: Duration = Duration::from_secs(5);

/// Gives back now and then, for as long as it is polled: of code, what only bringing a generation up needed.
pub(crate) async fn keep_lean(mut generation: watch::Receiver<Arc<Generation>>, store: StateStore) {
    generation.mark_changed();
    loop {
        tokio::time::sleep(EVERY).await;
        let _ = tokio::time::timeout(STORE_MAX, store.rest()).await;
        // On the thread that runs the stages.
        settle();
        let changed = generation.has_changed().unwrap_or(false);
        let plugins = changed.then(|| generation.borrow_and_update().plugins.clone());
        // It may take some milliseconds per 100 MiB: not on a thread that others wait for.
        let given = tokio::task::spawn_blocking(move || {
            give_back();
            if let Some(plugins) = plugins {
                // Without it some megabytes stay mapped, nothing else: there is nobody to tell.
                let _ = unmap_code();
                let running = plugins
                    .plugins
                    .values()
                    .filter_map(|of| of.running.as_ref());
                running.for_each(|installed| installed.component.rest());
            }
        });
        if given.await.is_err() {
            return;
        }
    }
}

/// glibc's own functions.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate of ours offers them in a safe wrapper")]
mod glibc {
    use std::ffi::c_int;

    /// Of malloc.h: how many arenas there may be.
    pub(super) const M_ARENA_MAX: c_int = -8;
    /// Of malloc.h: blocks from this size on are mappings of their own, which go back when they are freed.
    pub(super) const M_MMAP_THRESHOLD: c_int = -3;

    // SAFETY: the signatures of malloc.h; both may be called at any time from any thread.
    unsafe extern "C" {
        pub(super) safe fn malloc_trim(pad: usize) -> c_int;
        pub(super) safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }
}

/// Keeps the heap together. Call it before there are threads: each new one would begin an arena of its own, up to eight for a
/// core, and the holes of all of them add up (measured a minute after the start of host monitoring: 9.3 MiB, with two 3.1).
#[cfg(target_env = "gnu")]
pub fn keep_together() {
    /// The main thread's and one for all others, which rarely allocate at the same time.
    const ARENAS: std::ffi::c_int = 2;
    /// Bytes. glibc's own default, which by itself would rise with each large block that is freed.
    const LARGE: std::ffi::c_int = 128 << 10;
    // What is refused stays as it was.
    let _ = glibc::mallopt(glibc::M_ARENA_MAX, ARENAS);
    let _ = glibc::mallopt(glibc::M_MMAP_THRESHOLD, LARGE);
}

/// Nothing to do: other allocators have no arenas.
#[cfg(not(target_env = "gnu"))]
pub fn keep_together() {}

/// Moves the free blocks that glibc keeps at hand for the calling thread together. They lie wherever the thread freed
/// them last: after a storm of 5,000 alerts amid 0.7 MiB of pages that held nothing else.
#[cfg(target_env = "gnu")]
pub fn settle() {
    /// glibc keeps blocks of up to 1,032 bytes at hand, in steps of 16.
    const SIZES: std::ops::RangeInclusive<usize> = 24..=1_032;
    /// So many of each size.
    const KEPT: usize = 7;
    let all = || {
        let sizes = SIZES.step_by(16);
        let blocks = sizes.flat_map(|size| std::iter::repeat_n(size, KEPT));
        let blocks = blocks.map(|size| std::hint::black_box(Vec::<u8>::with_capacity(size)));
        blocks.collect::<Vec<_>>()
    };
    // What is at hand is taken first; what is freed first is at hand from then on, and the rest free for all.
    let scattered = all();
    let together = all();
    drop(together);
    drop(scattered);
}

/// Nothing to do: other allocators are not known to scatter what they keep for a thread.
#[cfg(not(target_env = "gnu"))]
pub fn settle() {}

/// Gives back what lies idle now. Holds up whoever allocates meanwhile, for about a millisecond per 10 MiB.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // Tells whether there was something to give back; there often is not.
    let _ = glibc::malloc_trim(0);
}

/// Gives back what lies idle now: other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}

/// Takes all code of the program out of this process's page tables. What runs comes back by a fault for every 64 KiB,
/// from the page cache. False: there is no `/proc`.
fn unmap_code() -> bool {
    let Some(code) = own_code() else {
        return false;
    };
    #[expect(
        unsafe_code,
        reason = "the kernel's promise about clean pages of a file cannot be put into types"
    )]
    // SAFETY: the range is a private mapping of the program's file that nobody may write and nobody wrote (it has no
    // text relocations), so each page reads as before when it is touched again. Only a debugger's breakpoints are lost.
    unsafe {
        let start = std::ptr::with_exposed_provenance_mut(code.start);
        rustix::mm::madvise(start, code.len(), Advice::LinuxDontNeed).is_ok()
    }
}

/// Addresses of the mapping that this function lies in.
fn own_code() -> Option<Range<usize>> {
    let here = own_code as *const () as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let range = address(start)?..address(end)?;
        (range.contains(&here) && rest.starts_with("r-xp ")).then_some(range)
    })
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    /// KiB of the program's own code that are mapped.
    fn mapped_code() -> u64 {
        let start = format!("{:x}-", own_code().expect("procfs").start);
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("procfs");
        let mine = maps.lines().skip_while(|line| !line.starts_with(&start));
        let line = mine
            .take(8)
            .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"));
        line.expect("a number of KiB").parse().expect("a number")
    }

    #[test]
    fn code_that_is_not_needed_is_not_mapped() {
        let before = mapped_code();
        assert!(unmap_code());
        let after = mapped_code();
        assert!(after < before, "{before} KiB before, {after} KiB after");
    }

    /// Of this process, in KiB.
    fn resident() -> u64 {
        let text = std::fs::read_to_string("/proc/self/status").expect("procfs");
        let line = text.lines().find(|line| line.starts_with("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        kib.expect("a number of KiB")
    }

    #[test]
    fn what_was_freed_between_things_that_stay_goes_back() {
        // Small blocks, so that they come from the heap; every hundredth stays and pins its neighbours.
        let mut blocks: Vec<Option<Vec<u8>>> =
            (0..64 * 1_024).map(|_| Some(vec![1; 1_000])).collect();
        let full = resident();
        for (at, block) in blocks.iter_mut().enumerate() {
            if at % 100 != 0 {
                *block = None;
            }
        }
        give_back();
        let left = resident();
        assert!(
            full - left > 32 * 1_024,
            "{full} KiB before, {left} KiB after"
        );
    }
}

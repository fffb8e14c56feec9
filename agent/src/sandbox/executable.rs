//! Whether this process may make memory executable. systemd's `MemoryDenyWriteExecute=` forbids it, by prctl or by
//! a system call filter, and some kernels' policies do; no file says so, only a trial.

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

/// Bytes of the trial: one page of any size a kernel has.
const BYTES: usize = 64 << 10;

/// Tries it: writes nothing, runs nothing.
#[expect(
    unsafe_code,
    reason = "a mapping of its own, which nobody else learns of, is made and removed"
)]
pub(super) fn memory_can_be() -> bool {
    // SAFETY: an anonymous private mapping where the kernel likes; no pointer to it leaves this function, no
    // reference to it is made, and it is gone at its end.
    unsafe {
        let flags = MapFlags::PRIVATE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let Ok(mapping) =
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), BYTES, protection, flags)
        else {
            // Short of memory: another error will say so.
            return true;
        };
        let executable = MprotectFlags::READ | MprotectFlags::EXEC;
        let allowed = rustix::mm::mprotect(mapping, BYTES, executable).is_ok();
        // What cannot be unmapped stays, unused.
        let _ = rustix::mm::munmap(mapping, BYTES);
        allowed
    }
}

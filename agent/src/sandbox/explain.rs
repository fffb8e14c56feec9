//! How a call that trapped ended, in words for its author and a case for the agent.

use super::calls::{HANDLES_MAX, TRANSFER_BYTES_MAX};
use super::host::{HOST_CALLS_MAX, HostCallsSpent, HostState};
use super::limits::{
    INSTANCES_MAX, MEMORIES_MAX, Short, TABLE_ELEMENTS_MAX, TABLES_MAX, TOGETHER_BYTES_MAX,
};
use super::types::CallError;
use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

/// What a trap was, in our terms.
pub(super) fn explain(trap: &wasmtime::Error, state: &HostState) -> CallError {
    let limits = state.using.limits();
    if trap.downcast_ref::<HostCallsSpent>().is_some() {
        return CallError::HostCallLimit(HOST_CALLS_MAX);
    }
    if let Some(exit) = trap.downcast_ref::<I32Exit>() {
        return CallError::Exited(exit.0);
    }
    let kind = trap.downcast_ref::<Trap>();
    if kind == Some(&Trap::Interrupt) {
        return CallError::CpuLimit(limits.cpu);
    }
    // A guest that gets no memory aborts with `unreachable`, or was refused before it ran at all.
    if let Some(short) = state.budget.refused
        && matches!(kind, None | Some(Trap::UnreachableCodeReached))
    {
        return match short {
            Short::Own => CallError::MemoryLimit(limits.memory_bytes),
            Short::Together => CallError::Unavailable {
                message: format!(
                    "there was no memory for it: the plugins that run now hold {TOGETHER_BYTES_MAX} bytes together"
                ),
                retry_after: None,
            },
        };
    }
    let root = trap.root_cause().to_string();
    if root.contains("too much data is being copied between the host and the guest") {
        return CallError::BadResult(format!(
            "it hands over more than {TRANSFER_BYTES_MAX} bytes at once"
        ));
    }
    if kind.is_none()
        && let Some(error) = no_trap(&root, &format!("{trap:#}"))
    {
        return error;
    }
    let reason = kind.map_or(root, |kind| format!("{kind}"));
    let said = state.stderr.text();
    CallError::Trapped(match (said.is_empty(), kind) {
        (true, _) => reason,
        // How every panic ends; the message says more.
        (false, Some(Trap::UnreachableCodeReached)) => without_hint(&said).to_owned(),
        (false, _) => format!("{reason}; it wrote: {}", without_hint(&said)),
    })
}

/// What ended a call without being a trap of the guest's code: what it handed over could not be read, or it holds or
/// needs more than a plugin may have. Wasmtime has no types for these, only words: the last cause, and all of them.
fn no_trap(root: &str, whole: &str) -> Option<CallError> {
    let has = |part: &str| root.contains(part);
    if whole.contains("type mismatch with") {
        return Some(CallError::Trapped(format!(
            "one of its functions has another type than the contract says ({whole}); build it with the matching SDK"
        )));
    }
    if has("maximum concurrent") {
        return Some(CallError::Unavailable {
            message:
                "there was no room for it: the plugins that run now hold all memories there are"
                    .into(),
            retry_after: None,
        });
    }
    let unreadable = if has("utf-8") {
        "it hands over text that is not UTF-8".to_owned()
    } else if has("out of bounds of memory") || has("byte length") || has("size overflow") {
        format!("it points to data outside of its memory ({root})")
    } else if has("aligned") {
        format!("it points to data that is not aligned ({root})")
    } else if has("discriminant") {
        format!("it hands over a case that the contract does not have ({root})")
    } else {
        return too_many(root).map(CallError::Trapped);
    };
    Some(CallError::BadResult(unreadable))
}

/// Counts of a store that are over their limit, with the limit.
fn too_many(root: &str) -> Option<String> {
    let has = |part: &str| root.contains(part);
    if has("handle limit exceeded") || has("resource table has no free keys") {
        return Some(format!(
            "it holds more than {HANDLES_MAX} handles (connections, streams, timers) at once; drop what is no longer needed"
        ));
    }
    if has("table minimum size") {
        return Some(format!(
            "{root}; a table may have {TABLE_ELEMENTS_MAX} elements"
        ));
    }
    has("resource limit exceeded").then(|| {
        format!(
            "{root}; a plugin may have {INSTANCES_MAX} core instances, {TABLES_MAX} tables and {MEMORIES_MAX} memories"
        )
    })
}

/// A panic message without Rust's advice to set an environment variable, which a plugin has none of.
fn without_hint(said: &str) -> &str {
    said.split("\nnote: run with `RUST_BACKTRACE")
        .next()
        .unwrap_or(said)
        .trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_to_the_developer_is_cut_off() {
        let said = "thread 'main' panicked at src/lib.rs:3:5:\nboom\nnote: run with `RUST_BACKTRACE=1` environment";
        assert_eq!(
            without_hint(said),
            "thread 'main' panicked at src/lib.rs:3:5:\nboom"
        );
    }

    #[test]
    fn what_is_no_trap_has_words_of_its_own() {
        for (root, name, told) in [
            (
                "invalid utf-8 sequence of 1 bytes from index 0",
                "bad_result",
                "text that is not UTF-8",
            ),
            (
                "cannot allocate another handle: store handle limit exceeded",
                "trapped",
                "256 handles",
            ),
            (
                "table minimum size of 30000 elements exceeds table limits",
                "trapped",
                "a table may have 20000 elements",
            ),
        ] {
            let error = no_trap(root, root).expect(root);
            assert_eq!(error.name(), name);
            assert!(error.to_string().contains(told), "{error}");
        }
        assert_eq!(no_trap("something else", "something else"), None);
    }
}

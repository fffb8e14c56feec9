//! Keeps one of the guests' threads free of those that compute for long.
//!
//! ```text
//!   a stretch of a quick use  ──────────────────────────────> any guests' thread
//!   a stretch of another one  ──> lane, in the order they came ──> two of the three
//! ```
//!
//! A call gives its thread back at every tick, but then it stands in the runtime's queue with all the others: behind
//! eight plugins that spin, a probe whose answer has arrived would wait 40 ms to go on. So stretches of uses that are
//! not quick ([`Patience`](super::patience::Patience)) need a lane, of which there is one less than threads.

use super::host::Using;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The lanes of all calls.
pub(crate) struct Lanes(Mutex<State>);

struct State {
    free: usize,
    next_ticket: u64,
    /// By the order they came.
    waiting: BTreeMap<u64, Waker>,
}

/// A call whose stretches take a lane when its use is not quick.
pub(crate) struct InLane<F> {
    call: Pin<Box<F>>,
    using: Arc<Using>,
    lanes: Arc<Lanes>,
    /// Its place among those that wait.
    ticket: Option<u64>,
}

/// A lane that is taken; free again when dropped, also by a panic.
struct Taken<'a>(&'a Lanes);

impl Lanes {
    /// So many may compute at a time.
    pub(crate) fn new(count: usize) -> Self {
        Lanes(Mutex::new(State {
            free: count,
            next_ticket: 0,
            waiting: BTreeMap::new(),
        }))
    }

    /// Takes a lane, or a place behind those that wait for one.
    fn take(&self, ticket: &mut Option<u64>, waker: &Waker) -> Option<Taken<'_>> {
        let mut state = self.lock();
        let first = state.waiting.keys().next().copied();
        // Nobody overtakes: who is not the first waits behind him, also when a lane is free.
        if state.free > 0 && first.is_none_or(|first| *ticket == Some(first)) {
            state.free -= 1;
            if let Some(ticket) = ticket.take() {
                state.waiting.remove(&ticket);
            }
            state.wake_first();
            return Some(Taken(self));
        }
        let place = *ticket.get_or_insert(state.next_ticket);
        state.next_ticket = state.next_ticket.max(place + 1);
        state.waiting.insert(place, waker.clone());
        None
    }

    fn leave(&self, ticket: u64) {
        let mut state = self.lock();
        state.waiting.remove(&ticket);
        state.wake_first();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_first(&self) {
        if self.free > 0
            && let Some(first) = self.waiting.values().next()
        {
            first.wake_by_ref();
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.free += 1;
        state.wake_first();
    }
}

impl<F> InLane<F> {
    pub(crate) fn new(call: Pin<Box<F>>, using: Arc<Using>, lanes: Arc<Lanes>) -> Self {
        InLane {
            call,
            using,
            lanes,
            ticket: None,
        }
    }
}

impl<F: Future> Future for InLane<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        // Asked anew for each stretch: one that turns out to be long is in a lane from its second tick on.
        if this.ticket.is_none() && this.using.patience.is_quick() {
            return this.call.as_mut().poll(cx);
        }
        match this.lanes.take(&mut this.ticket, cx.waker()) {
            Some(_taken) => this.call.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for InLane<F> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.lanes.leave(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waker() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        (Arc::clone(&woken), Waker::from(woken))
    }

    #[test]
    fn lanes_are_given_in_the_order_of_asking() {
        let lanes = Lanes::new(1);
        let (first, first_waker) = waker();
        let (second, second_waker) = waker();
        let (mut one, mut two, mut three) = (None, None, None);
        let taken = lanes.take(&mut one, Waker::noop()).unwrap();
        assert!(lanes.take(&mut two, &first_waker).is_none());
        assert!(lanes.take(&mut three, &second_waker).is_none());
        drop(taken);
        assert_eq!(first.0.load(Ordering::Relaxed), 1);
        // Whoever comes now does not overtake, nor does the second.
        assert!(lanes.take(&mut one, Waker::noop()).is_none());
        assert!(lanes.take(&mut three, &second_waker).is_none());
        let taken = lanes.take(&mut two, &first_waker).unwrap();
        assert_eq!(two, None);
        drop(taken);
        assert_eq!(second.0.load(Ordering::Relaxed), 1);
        drop(lanes.take(&mut three, &second_waker).unwrap());
        drop(lanes.take(&mut one, Waker::noop()).unwrap());
        assert!(lanes.lock().waiting.is_empty());
    }

    #[test]
    fn one_that_goes_away_passes_its_turn_on() {
        let lanes = Lanes::new(1);
        let (next, next_waker) = waker();
        let (mut gone, mut waits) = (None, None);
        let taken = lanes.take(&mut None, Waker::noop()).unwrap();
        assert!(lanes.take(&mut gone, Waker::noop()).is_none());
        assert!(lanes.take(&mut waits, &next_waker).is_none());
        drop(taken);
        assert_eq!(next.0.load(Ordering::Relaxed), 0, "not its turn");
        lanes.leave(gone.unwrap());
        assert_eq!(next.0.load(Ordering::Relaxed), 1);
        assert!(lanes.take(&mut waits, &next_waker).is_some());
    }
}

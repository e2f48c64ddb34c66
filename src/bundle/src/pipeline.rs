//! Work side by side, results in order, memory bounded.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Bytes of items that are worked on and of results that wait for their turn.
const IN_FLIGHT: u64 = 256 << 20;
/// A larger item counts as if it had this many: it must not keep others from being worked on.
const LARGEST: u64 = IN_FLIGHT / 2;

struct State<R, E> {
    /// The next item to start.
    next: usize,
    /// Bytes in flight.
    bytes: u64,
    /// Results that wait for their turn, and their bytes.
    done: BTreeMap<usize, Result<(R, u64), E>>,
    /// Nothing more is to be started.
    stop: bool,
    /// A worker panicked: what it worked on will never be done.
    panicked: bool,
}

struct Shared<R, E> {
    state: Mutex<State<R, E>>,
    /// There is room for another item, or nothing to wait for.
    room: Condvar,
    /// There is another result, or nothing to wait for.
    result: Condvar,
}

impl<R, E> Shared<R, E> {
    fn lock(&self) -> MutexGuard<'_, State<R, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self, panicked: bool) {
        let mut state = self.lock();
        state.stop = true;
        state.panicked |= panicked;
        drop(state);
        self.room.notify_all();
        self.result.notify_all();
    }
}

/// Wakes the others where a worker panics, so that the panic is seen rather than waited for.
struct Alarm<'a, R, E>(&'a Shared<R, E>);

impl<R, E> Drop for Alarm<'_, R, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(true);
        }
    }
}

/// Does `work` for each item on `jobs` threads and gives the results to `sink`, on this thread, in
/// the items' order. `cost` is the memory that work on an item takes; `init` makes what a thread
/// keeps; `work` gives a result and the memory that it takes until it reaches `sink`.
///
/// # Errors
/// The error of the first item, in order, that `init`, `work` or `sink` failed for; later items
/// may have been worked on, none has reached `sink`.
pub fn run<T: Sync, K, R: Send, E: Send>(
    jobs: usize,
    items: &[T],
    cost: impl Fn(&T) -> u64 + Sync,
    init: impl Fn() -> Result<K, E> + Sync,
    work: impl Fn(&mut K, &T) -> Result<(R, u64), E> + Sync,
    mut sink: impl FnMut(usize, R) -> Result<(), E>,
) -> Result<(), E> {
    let shared = Shared {
        state: Mutex::new(State {
            next: 0,
            bytes: 0,
            done: BTreeMap::new(),
            stop: false,
            panicked: false,
        }),
        room: Condvar::new(),
        result: Condvar::new(),
    };
    let worker = || {
        let _alarm = Alarm(&shared);
        let mut kept = None;
        while let Some((number, item)) = take(&shared, items, &cost) {
            let kept = match &mut kept {
                Some(kept) => Ok(kept),
                none => init().map(|made| none.insert(made)),
            };
            let result = kept.and_then(|kept| work(kept, item));
            let mut state = shared.lock();
            state.bytes -= cost(item).min(LARGEST);
            match &result {
                Ok((_, held)) => state.bytes += held,
                Err(_) => state.stop = true,
            }
            state.done.insert(number, result);
            drop(state);
            shared.result.notify_all();
            shared.room.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, items.len().max(1)) {
            scope.spawn(worker);
        }
        let mut outcome = Ok(());
        for number in 0..items.len() {
            let Some(result) = wait(&shared, number) else {
                break;
            };
            outcome = result.and_then(|(result, held)| {
                sink(number, result)?;
                shared.lock().bytes -= held;
                shared.room.notify_all();
                Ok(())
            });
            if outcome.is_err() {
                break;
            }
        }
        shared.stop(false);
        outcome
    })
}

/// The next item, when there is room for it. Items are started in order, so the one that the sink
/// waits for always has its room.
fn take<'a, T, R, E>(
    shared: &Shared<R, E>,
    items: &'a [T],
    cost: &impl Fn(&T) -> u64,
) -> Option<(usize, &'a T)> {
    let mut state = shared.lock();
    loop {
        let number = state.next;
        let item = items.get(number).filter(|_| !state.stop)?;
        let needed = cost(item).min(LARGEST);
        if state.bytes == 0 || state.bytes + needed <= IN_FLIGHT {
            state.next += 1;
            state.bytes += needed;
            return Some((number, item));
        }
        state = shared
            .room
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

/// The result of an item; `None` if there will be none.
fn wait<R, E>(shared: &Shared<R, E>, number: usize) -> Option<Result<(R, u64), E>> {
    let mut state = shared.lock();
    loop {
        if let Some(result) = state.done.remove(&number) {
            return Some(result);
        }
        if state.panicked || state.stop && number >= state.next {
            return None;
        }
        state = shared
            .result
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn numbers(
        jobs: usize,
        (cost, held): (u64, u64),
        fail: Option<u64>,
    ) -> (Vec<u64>, Result<(), u64>, u64) {
        let items: Vec<u64> = (0..500).collect();
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut seen = Vec::new();
        let outcome = run(
            jobs,
            &items,
            |_| cost,
            || Ok(()),
            |(), &item| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if item % 7 == 0 {
                    std::thread::yield_now();
                }
                if fail.is_some_and(|fail| item >= fail) {
                    return Err(item);
                }
                Ok((item * 2, held))
            },
            |_, result| {
                now.fetch_sub(1, Ordering::SeqCst);
                seen.push(result);
                Ok(())
            },
        );
        (seen, outcome, most.into_inner())
    }

    #[test]
    fn results_come_in_order() {
        for jobs in [1, 2, 7] {
            let (seen, outcome, _) = numbers(jobs, (1, 1), None);
            assert_eq!(outcome, Ok(()));
            assert!(seen.iter().copied().eq((0..500).map(|item| item * 2)));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (seen, _, most) = numbers(8, (IN_FLIGHT / 4, IN_FLIGHT / 4), None);
        assert_eq!(seen.len(), 500);
        assert!(most <= 5, "{most} at once");
        // What is larger than all that is allowed goes through.
        let (seen, ..) = numbers(8, (IN_FLIGHT * 2, IN_FLIGHT * 2), None);
        assert_eq!(seen.len(), 500);
    }

    #[test]
    fn the_first_error_in_order_is_the_outcome() {
        for jobs in [1, 2, 7] {
            let (seen, outcome, _) = numbers(jobs, (1, 0), Some(123));
            assert_eq!((seen.len(), outcome), (123, Err(123)));
        }
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_is_passed_on() {
        let items: Vec<u32> = (0..100).collect();
        let _ = run(
            2,
            &items,
            |_| 1,
            || Ok::<_, ()>(()),
            |(), &item| {
                assert!(item != 50, "no");
                Ok(((), 0))
            },
            |_, ()| Ok(()),
        );
    }
}

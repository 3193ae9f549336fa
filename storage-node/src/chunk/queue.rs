//! Threads for calls that block, and the queues before them. They know nothing of chunks.
//!
//! A queue is unbounded by itself: who pushes holds a permit for what waits in it.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

/// What waits for a thread, oldest first.
pub(super) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
}

struct Waiting<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Arc<Self> {
        let waiting = Mutex::new(Waiting { items: VecDeque::new(), closed: false });
        Arc::new(Self { waiting, changed: Condvar::new() })
    }

    pub(super) fn push(&self, item: T) {
        self.waiting.lock().items.push_back(item);
        self.changed.notify_one();
    }

    /// The oldest item and all behind it that fit within `weight_max` with it. Nothing when the queue is closed and empty.
    pub(super) fn take(&self, weight_max: usize, weight: impl Fn(&T) -> usize) -> Option<Vec<T>> {
        let mut waiting = self.waiting.lock();
        while waiting.items.is_empty() {
            if waiting.closed {
                return None;
            }
            self.changed.wait(&mut waiting);
        }
        let mut taken = Vec::new();
        let mut sum = 0;
        while let Some(item) = waiting.items.front() {
            sum += weight(item);
            if !taken.is_empty() && sum > weight_max {
                break;
            }
            taken.extend(waiting.items.pop_front());
        }
        Some(taken)
    }

    fn close(&self) {
        self.waiting.lock().closed = true;
        self.changed.notify_all();
    }
}

/// Threads that work on what a queue holds. Dropping them waits for what is in it.
pub(super) struct Threads<T> {
    queue: Arc<Queue<T>>,
    handles: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Threads<T> {
    /// Starts `count` threads that hand all they take, at most `weight_max` of it, to `work`.
    pub(super) fn start(
        name: &str,
        count: usize,
        weight_max: usize,
        weight: fn(&T) -> usize,
        work: impl Fn(Vec<T>) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let mut threads = Self { queue: Queue::new(), handles: Vec::new() };
        for _ in 0..count {
            let (queue, work) = (threads.queue.clone(), work.clone());
            let run = move || {
                while let Some(items) = queue.take(weight_max, weight) {
                    // A bug in one piece of work must not cost the thread; who waits for it learns that it is gone.
                    if catch_unwind(AssertUnwindSafe(|| work(items))).is_err() {
                        tracing::error!("work on a chunk panicked");
                    }
                }
            };
            threads.handles.push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        }
        Ok(threads)
    }

    pub(super) fn push(&self, item: T) {
        self.queue.push(item);
    }
}

impl<T> Drop for Threads<T> {
    fn drop(&mut self) {
        self.queue.close();
        for handle in self.handles.drain(..) {
            // Panics were caught within.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Queue, Threads};

    #[test]
    fn takes_what_fits_but_never_nothing() {
        let queue = Queue::new();
        [50, 3, 4, 5].into_iter().for_each(|item| queue.push(item));
        let take = || queue.take(8, |&weight| weight).unwrap();
        assert_eq!(take(), [50]);
        assert_eq!(take(), [3, 4]);
        assert_eq!(take(), [5]);
    }

    #[test]
    fn closing_finishes_what_waits_and_survives_a_panic() {
        let done = Arc::new(AtomicUsize::new(0));
        let counter = done.clone();
        let work = move |items: Vec<usize>| {
            assert_ne!(items, [3], "a bug");
            counter.fetch_add(items.len(), Ordering::SeqCst);
        };
        let threads = Threads::start("test", 2, 1, |_| 1, work).unwrap();
        (0..10).for_each(|n| threads.push(n));
        drop(threads);
        assert_eq!(done.load(Ordering::SeqCst), 9);
    }
}

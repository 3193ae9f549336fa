//! What waits for a worker: a queue with many writers and one reader that takes everything at once.
//!
//! Requests and frames are bounded apart, so that neither crowds the other out: a full request queue refuses with
//! `Busy`, a full frame queue drops frames, as a network may.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::RaftError;
use super::input::Input;

/// Requests that may wait. At tens of thousands of commands a second this is a fraction of a second.
const REQUESTS_MAX: usize = 8192;
/// Bytes of commands that may wait.
const REQUEST_BYTES_MAX: usize = 64 << 20;
/// Bytes of frames that may wait. A leader resends what is dropped.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// The queue of one worker.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// Something arrived, or the queue was closed.
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    inputs: Vec<Input>,
    requests: usize,
    request_bytes: usize,
    frame_bytes: usize,
    closed: bool,
    /// Why storage does not take writes at the moment, if it does not.
    stalled: Option<String>,
}

impl Queue {
    /// Adds a request of this process.
    pub(super) fn push_request(&self, input: Input) -> Result<(), RaftError> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(RaftError::Stopped);
        }
        if let Some(reason) = &inner.stalled {
            return Err(RaftError::Storage { reason: reason.clone() });
        }
        let bytes = input.command_bytes();
        if inner.requests >= REQUESTS_MAX || inner.request_bytes + bytes > REQUEST_BYTES_MAX {
            return Err(RaftError::Busy);
        }
        inner.requests += 1;
        inner.request_bytes += bytes;
        self.add(&mut inner, input);
        Ok(())
    }

    /// Adds a frame of `bytes`, or drops it and says so.
    pub(super) fn push_frame(&self, bytes: usize, input: Input) -> bool {
        let mut inner = self.inner.lock();
        if inner.closed || inner.frame_bytes + bytes > FRAME_BYTES_MAX {
            return false;
        }
        inner.frame_bytes += bytes;
        self.add(&mut inner, input);
        true
    }

    /// Adds what must not be dropped and is bounded by its nature: there are few peers, and one piece per snapshot.
    pub(super) fn push_control(&self, input: Input) {
        let mut inner = self.inner.lock();
        if !inner.closed {
            self.add(&mut inner, input);
        }
    }

    /// Everything that waits; if nothing does, waits for something until the time is up. Nothing when the queue is
    /// closed.
    pub(super) fn take(&self, wait: Duration) -> Option<Vec<Input>> {
        let mut inner = self.inner.lock();
        if inner.inputs.is_empty() && !inner.closed {
            self.changed.wait_for(&mut inner, wait);
        }
        if inner.closed {
            return None;
        }
        inner.requests = 0;
        inner.request_bytes = 0;
        inner.frame_bytes = 0;
        Some(std::mem::take(&mut inner.inputs))
    }

    /// Refuses requests from now on, because storage takes no writes; `None` ends that.
    pub(super) fn set_stalled(&self, reason: Option<String>) {
        self.inner.lock().stalled = reason;
    }

    /// Why storage takes no writes, while that is so.
    pub(super) fn stalled(&self) -> Option<String> {
        self.inner.lock().stalled.clone()
    }

    /// Waits, but not beyond the queue's end. Whether the queue is still open.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let mut inner = self.inner.lock();
        self.changed.wait_while_for(&mut inner, |inner| !inner.closed, time);
        !inner.closed
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    /// Takes nothing any more and refuses what waits.
    pub(super) fn close(&self) {
        let waiting = {
            let mut inner = self.inner.lock();
            inner.closed = true;
            self.changed.notify_all();
            std::mem::take(&mut inner.inputs)
        };
        for input in waiting {
            input.refuse(RaftError::Stopped);
        }
    }

    fn add(&self, inner: &mut Inner, input: Input) {
        inner.inputs.push(input);
        if inner.inputs.len() == 1 {
            self.changed.notify_all();
        }
    }
}

//! The bytes of one write: lays out frames and what follows them so that one vectored system call takes them all. Knows
//! nothing of what they mean or in which order they should go.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::rpc::frame::Frame;

/// Below this length copying is cheaper than one more slice in the system call.
const COPY_BYTES_MAX: usize = 4 << 10;

/// What the next write takes: small things copied together, large ones by reference.
#[derive(Default)]
pub(super) struct Batch {
    small: BytesMut,
    segments: VecDeque<Bytes>,
    /// Everything in `small` and `segments`.
    bytes: usize,
}

impl Batch {
    /// Adds a frame.
    pub(super) fn frame(&mut self, frame: &Frame) {
        let bytes = frame.encode();
        self.small.extend_from_slice(&bytes);
        self.bytes += bytes.len();
    }

    /// Adds what follows a frame.
    pub(super) fn put(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        if bytes.len() < COPY_BYTES_MAX {
            self.small.extend_from_slice(&bytes);
        } else {
            self.seal();
            self.segments.push_back(bytes);
        }
    }

    /// Makes what was copied so far a segment of its own. Nothing is written that is not in a segment.
    pub(super) fn seal(&mut self) {
        if !self.small.is_empty() {
            self.segments.push_back(self.small.split().freeze());
        }
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.segments.front().map_or(&[], |segment| segment)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.segments);
        filled.map(|(slice, segment)| *slice = IoSlice::new(segment)).count()
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(segment) = self.segments.front_mut() {
            if written < segment.len() {
                segment.advance(written);
                return;
            }
            written -= segment.len();
            self.segments.pop_front();
        }
    }
}

//! The wire: a frame carries the messages of many groups to one node.
//!
//! ```text
//! frame   = version u8 (1) | message*
//! message = group u32 BE | bytes u32 BE | eraftpb.Message (protobuf)
//! ```
//!
//! It knows bytes, not meaning: whether a message makes sense is `guard`'s to say.

use std::collections::BTreeMap;

use annulus_common::ids::{GroupId, NodeId};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;
use raft::eraftpb::Message;

use super::Outbox;

const VERSION: u8 = 1;
const MESSAGE_HEADER_BYTES: usize = 8;
/// A frame is sent when it has reached this size, so that none holds a connection for long.
const FRAME_BYTES_FULL: usize = 1 << 20;
/// What a peer may send at most: a full frame, and one more message of the largest size.
pub(super) const FRAME_BYTES_MAX: usize = 4 << 20;

/// Why a frame, or the rest of it, was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the frame is larger than allowed")]
    TooLarge,
    #[error("the frame has an unknown version")]
    Version,
    #[error("the frame ends too early")]
    Truncated,
    #[error("a message cannot be decoded")]
    Message,
}

/// Messages on their way out, by node.
#[derive(Default)]
pub(super) struct Mail {
    open: BTreeMap<NodeId, BytesMut>,
    full: Vec<(NodeId, Bytes)>,
}

impl Mail {
    /// Adds a message.
    pub(super) fn put(&mut self, group: GroupId, message: &Message) {
        let to = NodeId(message.to);
        let frame = self.open.entry(to).or_default();
        if frame.is_empty() {
            frame.put_u8(VERSION);
        }
        let bytes = message.encoded_len();
        frame.reserve(MESSAGE_HEADER_BYTES + bytes);
        frame.put_u32(group.0);
        frame.put_u32(u32::try_from(bytes).expect("messages are bounded far below 4 GiB"));
        message.encode_raw(frame);
        if frame.len() >= FRAME_BYTES_FULL {
            let frame = frame.split().freeze();
            self.full.push((to, frame));
        }
    }

    /// Sends everything, each node's messages in order.
    pub(super) fn post(&mut self, outbox: &Outbox) {
        for (to, frame) in self.full.drain(..) {
            (outbox.send)(to, frame);
        }
        for (to, frame) in &mut self.open {
            if !frame.is_empty() {
                (outbox.send)(*to, frame.split().freeze());
            }
        }
    }
}

/// The messages of a frame, up to the first that cannot be decoded.
pub(super) fn decode(mut frame: Bytes) -> (Vec<(GroupId, Message)>, Result<(), FrameError>) {
    let mut messages = Vec::new();
    if frame.len() > FRAME_BYTES_MAX {
        return (messages, Err(FrameError::TooLarge));
    }
    if frame.is_empty() || frame.get_u8() != VERSION {
        return (messages, Err(FrameError::Version));
    }
    while !frame.is_empty() {
        match decode_message(&mut frame) {
            Ok(message) => messages.push(message),
            Err(error) => return (messages, Err(error)),
        }
    }
    (messages, Ok(()))
}

/// The frame divided among `workers`, by the rule that a group belongs to the worker `group % workers`. What cannot be
/// divided goes to the first, which counts it.
pub(super) fn split(frame: Bytes, workers: usize) -> Vec<(usize, Bytes)> {
    if workers == 1 || frame.len() < 1 + MESSAGE_HEADER_BYTES || frame[0] != VERSION {
        return vec![(0, frame)];
    }
    let mut parts = BTreeMap::<usize, BytesMut>::new();
    let mut rest = frame.slice(1..);
    while rest.len() >= MESSAGE_HEADER_BYTES {
        let group = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let bytes = u32::from_be_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        let message = rest.split_to((MESSAGE_HEADER_BYTES + bytes).min(rest.len()));
        let part = parts.entry(group % workers).or_insert_with(|| BytesMut::from(&[VERSION][..]));
        part.put_slice(&message);
    }
    if !rest.is_empty() {
        parts.entry(0).or_insert_with(|| BytesMut::from(&[VERSION][..])).put_slice(&rest);
    }
    parts.into_iter().map(|(worker, part)| (worker, part.freeze())).collect()
}

fn decode_message(frame: &mut Bytes) -> Result<(GroupId, Message), FrameError> {
    if frame.len() < MESSAGE_HEADER_BYTES {
        return Err(FrameError::Truncated);
    }
    let group = GroupId(frame.get_u32());
    let bytes = frame.get_u32() as usize;
    if frame.len() < bytes {
        return Err(FrameError::Truncated);
    }
    let message = Message::decode(frame.split_to(bytes)).map_err(|_| FrameError::Message)?;
    Ok((group, message))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use annulus_common::ids::{GroupId, NodeId};
    use bytes::Bytes;
    use parking_lot::Mutex;
    use proptest::prelude::{any, prop, proptest};
    use raft::eraftpb::{Entry, Message};

    use super::{FRAME_BYTES_MAX, FrameError, Mail, decode, split};
    use crate::raft::Outbox;

    fn posted(messages: &[(u32, Message)]) -> Vec<(NodeId, Bytes)> {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&sent);
        let outbox = Outbox { send: Arc::new(move |to, frame| into.lock().push((to, frame))) };
        let mut mail = Mail::default();
        for (group, message) in messages {
            mail.put(GroupId(*group), message);
        }
        mail.post(&outbox);
        sent.lock().drain(..).collect()
    }

    fn message(to: u64, index: u64, bytes: usize) -> Message {
        let entry = Entry { index, data: vec![7; bytes], ..Entry::default() };
        Message { to, from: 1, index, entries: vec![entry], ..Message::default() }
    }

    #[test]
    fn all_groups_share_a_frame_per_node() {
        let sent = posted(&[(1, message(2, 1, 10)), (2, message(3, 2, 10)), (3, message(2, 3, 10))]);
        assert_eq!(sent.len(), 2);
        let (messages, result) = decode(sent[0].1.clone());
        assert_eq!(result, Ok(()));
        assert_eq!(messages, vec![(GroupId(1), message(2, 1, 10)), (GroupId(3), message(2, 3, 10))]);
    }

    /// Nodes of this and of the next version talk to each other: a change of these bytes needs a new version.
    #[test]
    fn the_bytes_stay_what_they_are() {
        let (_, frame) = posted(&[(7, message(2, 9, 2))]).remove(0);
        let expected = b"\x01\x00\x00\x00\x07\x00\x00\x00\x0e\x10\x02\x18\x01\x30\x09\x3a\x06\x18\x09\x22\x02\x07\x07";
        assert_eq!(frame, &expected[..]);
    }

    #[test]
    fn a_frame_is_divided_among_workers() {
        let (_, frame) = posted(&[(1, message(2, 1, 3)), (4, message(2, 2, 3)), (3, message(2, 3, 3))]).remove(0);
        let parts = split(frame.clone(), 2);
        let groups =
            |worker: usize| decode(parts[worker].1.clone()).0.into_iter().map(|(group, _)| group.0).collect::<Vec<_>>();
        assert_eq!((groups(0), groups(1)), (vec![4], vec![1, 3]));
        assert_eq!(split(frame.clone(), 1), vec![(0, frame)]);
    }

    #[test]
    fn large_mail_goes_in_several_frames_in_order() {
        let messages: Vec<_> = (0..20).map(|index| (1, message(2, index, 300 << 10))).collect();
        let sent = posted(&messages);
        assert!(sent.len() > 1);
        assert!(sent.iter().all(|(_, frame)| frame.len() <= FRAME_BYTES_MAX));
        let received: Vec<_> =
            sent.into_iter().flat_map(|(_, frame)| decode(frame).0).map(|(_, message)| message.index).collect();
        assert_eq!(received, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn what_precedes_the_damage_is_kept() {
        let (_, frame) = posted(&[(1, message(2, 1, 10)), (2, message(2, 2, 10))]).remove(0);
        let (messages, result) = decode(frame.slice(..frame.len() - 1));
        assert_eq!((messages.len(), result), (1, Err(FrameError::Truncated)));
        assert_eq!(decode(Bytes::from_static(&[9])).1, Err(FrameError::Version));
        assert_eq!(decode(Bytes::new()).1, Err(FrameError::Version));
        assert_eq!(decode(vec![1; FRAME_BYTES_MAX + 1].into()).1, Err(FrameError::TooLarge));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(decode(bytes.clone().into()));
            if let Some(version) = bytes.first_mut() {
                *version = 1;
            }
            drop(split(bytes.clone().into(), 3));
            drop(decode(bytes.into()));
        }
    }
}

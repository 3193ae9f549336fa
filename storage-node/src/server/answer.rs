//! Answers as they travel. One that is too large for a message is cut down to what the asker can go on with.

use annulus_common::protocol::metadata::QueryReply;
use annulus_common::protocol::{self, Answer, QUERIES_PER_REQUEST_MAX, Refusal, Response};
use annulus_common::rpc::{Envelope, HEADER_BYTES_MAX};
use bytes::Bytes;

use super::Reply;

/// An answer as it travels.
pub(crate) fn envelope(reply: Reply) -> Envelope {
    let (answer, payload): (Answer, Bytes) = match reply {
        Ok((response, payload)) => (Ok(response), payload),
        Err(refusal) => (Err(refusal), Bytes::new()),
    };
    let header = protocol::encode(&answer);
    if header.len() <= HEADER_BYTES_MAX {
        return Envelope { header, payload };
    }
    Envelope::from_header(protocol::encode(&shortened(answer, header.len())))
}

/// An answer that no header holds: of a batch of queries the first ones are answered, the others are to be asked again.
fn shortened(answer: Answer, bytes: usize) -> Answer {
    let too_large = || format!("an answer of {bytes} bytes is too large to send");
    let Ok(Response::Queried(answers)) = answer else { return Err(Refusal::Storage(too_large())) };
    let mut left = SHORTENED_BYTES_MAX;
    let fits = |(at, answer): (usize, Result<QueryReply, Refusal>)| {
        let bytes = protocol::encode(&answer).len();
        match left.checked_sub(bytes) {
            Some(rest) => {
                left = rest;
                answer
            }
            None if at == 0 => Err(Refusal::Storage(too_large())),
            None => {
                left = 0;
                Err(Refusal::NotReady("too much was asked at once".to_owned()))
            }
        }
    };
    Ok(Response::Queried(answers.into_iter().enumerate().map(fits).collect()))
}

/// What the answers of a shortened batch take, so that the refusals of the others find room beside them.
const SHORTENED_BYTES_MAX: usize = HEADER_BYTES_MAX - 64 * QUERIES_PER_REQUEST_MAX;

#[cfg(test)]
mod tests {
    use annulus_common::protocol::metadata::QueryReply;
    use annulus_common::protocol::{Answer, QUERIES_PER_REQUEST_MAX, Refusal, Response, decode};
    use annulus_common::rpc::HEADER_BYTES_MAX;
    use bytes::Bytes;

    use super::envelope;

    /// An answer of that many bytes, and a few.
    fn large(bytes: usize) -> QueryReply {
        QueryReply::References(vec![true; bytes])
    }

    #[test]
    fn a_batch_that_is_too_large_is_answered_in_part() {
        let answers = vec![Ok(large(HEADER_BYTES_MAX / 4)); QUERIES_PER_REQUEST_MAX];
        let sent = envelope(Ok((Response::Queried(answers.clone()), Bytes::new())));
        assert!(sent.header.len() <= HEADER_BYTES_MAX);
        let Ok(Response::Queried(received)) = decode::<Answer>(&sent.header).unwrap() else { panic!("no answers") };
        assert_eq!(received.len(), answers.len());
        assert!(received[..2] == answers[..2]);
        assert!(received[4..].iter().all(|answer| matches!(answer, Err(Refusal::NotReady(_)))));
    }

    #[test]
    fn a_single_answer_that_is_too_large_is_refused() {
        let answers = vec![Ok(large(HEADER_BYTES_MAX + 100))];
        let sent = envelope(Ok((Response::Queried(answers), Bytes::new())));
        let Ok(Response::Queried(received)) = decode::<Answer>(&sent.header).unwrap() else { panic!("no answers") };
        assert!(matches!(received[..], [Err(Refusal::Storage(_))]));
    }
}

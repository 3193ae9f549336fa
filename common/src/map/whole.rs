//! A whole map in pieces, as it is sent to who begins to watch: so that its size is no matter of what a message may carry. The pieces are
//! those of one version, encoded once by the leader; who has put them together asks for what changed since, and has a lease only then.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::leader::MapLeader;
use super::{ClusterMap, MapVersion};
use crate::protocol::{self, Refusal, Request, Response};

/// A piece: small beside what a connection carries in a second, so that a poll with its lease does not wait long behind one.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

/// The largest map that is taken: several times what accounts and nodes can make of it. A length beyond is a mistake, and is not reserved.
const WHOLE_BYTES_MAX: u64 = 256 << 20;

/// How long a piece may take at one address.
const PIECE_DEADLINE: Duration = Duration::from_secs(5);

/// Attempts at a piece: a connection that broke costs a piece and not the whole.
const PIECE_ATTEMPTS_MAX: usize = 3;

/// The piece that begins at `from`.
pub fn piece(whole: &Bytes, from: u64) -> Option<Bytes> {
    let from = usize::try_from(from).ok().filter(|from| *from < whole.len())?;
    Some(whole.slice(from..whole.len().min(from + PIECE_BYTES_MAX)))
}

/// The map of that version and length, of which `first` is here already. A refusal means that the leader does not keep it any longer, or
/// is another now: to be begun anew.
pub(super) async fn fetch(
    leader: &MapLeader,
    contacts: Option<&ClusterMap>,
    version: MapVersion,
    bytes: u64,
    first: Bytes,
) -> Result<ClusterMap, Refusal> {
    if bytes > WHOLE_BYTES_MAX {
        return Err(Refusal::Invalid(format!("a cluster map of {bytes} bytes")));
    }
    let mut whole = BytesMut::from(&first[..]);
    while (whole.len() as u64) < bytes {
        let from = whole.len() as u64;
        let piece = fetch_piece(leader, contacts, version, from).await?;
        if piece.is_empty() {
            return Err(Refusal::Invalid(format!("the cluster map ends after {from} of {bytes} bytes")));
        }
        whole.extend_from_slice(&piece);
    }
    let map: ClusterMap = protocol::decode(&whole).map_err(|error| Refusal::Invalid(error.to_string()))?;
    if map.version != version {
        return Err(Refusal::Invalid(format!("a cluster map of version {} and not {}", map.version.0, version.0)));
    }
    Ok(map)
}

async fn fetch_piece(
    leader: &MapLeader,
    contacts: Option<&ClusterMap>,
    version: MapVersion,
    from: u64,
) -> Result<Bytes, Refusal> {
    let request = Request::FetchMap { version, from };
    let mut attempt = 1;
    loop {
        match leader.ask(&request, contacts, PIECE_DEADLINE).await {
            Ok((Response::MapPiece, piece)) => return Ok(piece),
            Ok(_) => return Err(Refusal::Invalid("the answer is not a piece of the map".into())),
            Err(Refusal::Uncertain) if attempt < PIECE_ATTEMPTS_MAX => attempt += 1,
            Err(refusal) => return Err(refusal),
        }
    }
}

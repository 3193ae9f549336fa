//! The handshake: both ends prove that they know the cluster secret, and agree on a version, before anything else is read.
//!
//! ```text
//! caller  Hello { versions, channel, nonce, identity }           ->
//!         <-  Challenge { version, nonce, identity }   or Refused { reason }
//!         Proof: HMAC(secret, "caller", Hello, Challenge)     ->
//!         <-  Welcome: HMAC(secret, "server", Hello, Challenge)   or Refused { reason }
//! ```
//!
//! Both proofs cover both nonces, both identities, the versions and the channel, so none can be replayed or moved to another
//! connection; the label keeps one end's proof from being reflected as the other's. The server proves itself last, so that
//! a stranger learns nothing from it that he could try secrets on. The secret is not a session key: what travels later is
//! neither encrypted nor signed here.
//!
//! Each message is a length (u16, little-endian, at most [`MESSAGE_BYTES_MAX`]) and a postcard record. Later versions may
//! append fields, which earlier ones ignore.

use std::fmt;
use std::io;
use std::time::Duration;

use hmac::{Hmac, Mac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::PeerIdentity;
use super::frame::{Channel, VERSION};

/// How long the other end may take over its part.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest message of a handshake: a stranger makes us read no more than this.
const MESSAGE_BYTES_MAX: usize = 512;

/// The longest reason that we send or believe.
const REASON_CHARS_MAX: usize = 200;

const MAGIC: [u8; 7] = *b"annulus";

/// The shortest secret that is worth the name.
const SECRET_BYTES_MIN: usize = 16;

/// What every process of a cluster knows and no one else does. Never shown: `Debug` hides it.
#[derive(Clone)]
pub struct ClusterSecret(Vec<u8>);

/// A cluster secret that could be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster secret is shorter than {SECRET_BYTES_MIN} bytes")]
pub struct SecretTooShort;

impl ClusterSecret {
    /// The secret as it is written in the configuration.
    pub fn parse(text: &str) -> Result<Self, SecretTooShort> {
        let secret = text.trim().as_bytes();
        if secret.len() < SECRET_BYTES_MIN { Err(SecretTooShort) } else { Ok(Self(secret.to_vec())) }
    }

    /// The text of a new secret: 256 random bits.
    pub fn generate_text() -> String {
        hex::encode(rand::random::<[u8; 32]>())
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(hidden)")
    }
}

/// What a handshake settled.
#[derive(Clone, Debug)]
pub(super) struct Agreed {
    pub(super) peer: PeerIdentity,
    pub(super) channel: Channel,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// One of the two ends said no.
    #[error("{0}")]
    Refused(String),
    /// The other end went away or was silent.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Serialize, Deserialize)]
struct Hello {
    magic: [u8; 7],
    version_min: u8,
    version_max: u8,
    channel: Channel,
    nonce: [u8; 32],
    identity: PeerIdentity,
}

#[derive(Serialize, Deserialize)]
enum Challenge {
    Accepted { version: u8, nonce: [u8; 32], identity: PeerIdentity },
    Refused { reason: String },
}

#[derive(Serialize, Deserialize)]
enum Verdict {
    Welcome { proof: [u8; 32] },
    Refused { reason: String },
}

/// The caller's part.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    channel: Channel,
    identity: PeerIdentity,
    secret: &ClusterSecret,
) -> Result<Agreed, HandshakeError> {
    in_time(HANDSHAKE_TIMEOUT, async {
        let nonce = rand::random();
        let hello = Hello { magic: MAGIC, version_min: VERSION, version_max: VERSION, channel, nonce, identity };
        let hello_bytes = encode(&hello);
        write_message(stream, &hello_bytes).await?;

        let challenge_bytes = read_message(stream).await?;
        let (version, peer) = match decode(&challenge_bytes)? {
            Challenge::Accepted { version, identity, .. } => (version, identity),
            Challenge::Refused { reason } => return Err(HandshakeError::Refused(printable(&reason))),
        };
        if version != VERSION {
            return Err(HandshakeError::Refused(format!("the peer chose version {version}, which we did not offer")));
        }
        check_clusters(&hello.identity, &peer)?;

        write_message(stream, &prove(secret, "caller", &hello_bytes, &challenge_bytes)).await?;
        match decode(&read_message(stream).await?)? {
            Verdict::Welcome { proof } => verify(secret, "server", &hello_bytes, &challenge_bytes, &proof)?,
            Verdict::Refused { reason } => return Err(HandshakeError::Refused(printable(&reason))),
        }
        Ok(Agreed { peer, channel })
    })
    .await
}

/// The server's part. A refusal is told to the caller before it is returned.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    identity: PeerIdentity,
    secret: &ClusterSecret,
) -> Result<Agreed, HandshakeError> {
    in_time(HANDSHAKE_TIMEOUT, async {
        let hello_bytes = read_message(stream).await?;
        let hello: Hello = decode(&hello_bytes)?;
        if let Err(error) = check_hello(&hello, &identity) {
            write_message(stream, &encode(&Challenge::Refused { reason: error.to_string() })).await?;
            return Err(error);
        }
        let challenge_bytes = encode(&Challenge::Accepted { version: VERSION, nonce: rand::random(), identity });
        write_message(stream, &challenge_bytes).await?;

        let proof = read_message(stream).await?;
        if let Err(error) = verify(secret, "caller", &hello_bytes, &challenge_bytes, &proof) {
            write_message(stream, &encode(&Verdict::Refused { reason: error.to_string() })).await?;
            return Err(error);
        }
        let proof = prove(secret, "server", &hello_bytes, &challenge_bytes);
        write_message(stream, &encode(&Verdict::Welcome { proof })).await?;
        Ok(Agreed { peer: hello.identity, channel: hello.channel })
    })
    .await
}

async fn in_time(
    limit: Duration,
    handshake: impl Future<Output = Result<Agreed, HandshakeError>>,
) -> Result<Agreed, HandshakeError> {
    timeout(limit, handshake)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long").into()))
}

fn check_hello(hello: &Hello, ours: &PeerIdentity) -> Result<(), HandshakeError> {
    if hello.magic != MAGIC {
        return Err(HandshakeError::Refused("not an Annulus peer".to_owned()));
    }
    if !(hello.version_min..=hello.version_max).contains(&VERSION) {
        return Err(HandshakeError::Refused(format!(
            "the server speaks version {VERSION} of the protocol, the caller {} to {}",
            hello.version_min, hello.version_max
        )));
    }
    check_clusters(ours, &hello.identity)
}

fn check_clusters(ours: &PeerIdentity, theirs: &PeerIdentity) -> Result<(), HandshakeError> {
    if ours.conflicts_with(theirs) { Err(HandshakeError::Refused(OTHER_CLUSTER.to_owned())) } else { Ok(()) }
}

/// The reason given to a peer of another cluster, by every transport.
pub(super) const OTHER_CLUSTER: &str = "the peers belong to different clusters";

fn transcript(secret: &ClusterSecret, role: &str, hello: &[u8], challenge: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes a key of any length");
    for part in [b"annulus rpc", role.as_bytes(), hello, challenge] {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac
}

fn prove(secret: &ClusterSecret, role: &str, hello: &[u8], challenge: &[u8]) -> [u8; 32] {
    transcript(secret, role, hello, challenge).finalize().into_bytes().into()
}

fn verify(
    secret: &ClusterSecret,
    role: &str,
    hello: &[u8],
    challenge: &[u8],
    proof: &[u8],
) -> Result<(), HandshakeError> {
    // Compares in constant time.
    transcript(secret, role, hello, challenge)
        .verify_slice(proof)
        .map_err(|_| HandshakeError::Refused("the cluster secrets differ".to_owned()))
}

/// What a stranger says may end up in a log: short, and nothing that a terminal would obey.
fn printable(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}

fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("a handshake message is plain data, which postcard always encodes")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, HandshakeError> {
    postcard::from_bytes(bytes).map_err(|_| HandshakeError::Refused("not an Annulus handshake".to_owned()))
}

async fn write_message<S: AsyncWrite + Unpin>(stream: &mut S, message: &[u8]) -> io::Result<()> {
    assert!(message.len() <= MESSAGE_BYTES_MAX, "a handshake message is within MESSAGE_BYTES_MAX");
    let mut bytes = (message.len() as u16).to_le_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await
}

async fn read_message<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, HandshakeError> {
    let length = stream.read_u16_le().await? as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(HandshakeError::Refused("not an Annulus handshake".to_owned()));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClusterId, InstanceId, NodeId};
    use tokio::io::duplex;

    fn identity(cluster: Option<u8>) -> PeerIdentity {
        PeerIdentity {
            instance: InstanceId([1; 16]),
            node: Some(NodeId(7)),
            cluster: cluster.map(|id| ClusterId([id; 16])),
        }
    }

    fn secret(text: &str) -> ClusterSecret {
        ClusterSecret::parse(text).unwrap()
    }

    const RIGHT: &str = "correct horse battery staple";

    async fn shake(
        (ours, our_secret): (PeerIdentity, &str),
        (theirs, their_secret): (PeerIdentity, &str),
    ) -> (Result<Agreed, HandshakeError>, Result<Agreed, HandshakeError>) {
        let (mut near, mut far) = duplex(4096);
        let (our_secret, their_secret) = (secret(our_secret), secret(their_secret));
        tokio::join!(connect(&mut near, Channel::Bulk, ours, &our_secret), accept(&mut far, theirs, &their_secret))
    }

    #[tokio::test]
    async fn peers_of_one_cluster_learn_who_the_other_is() {
        for (ours, theirs) in [(Some(1), Some(1)), (None, Some(1)), (Some(1), None), (None, None)] {
            let (caller, server) = shake((identity(ours), RIGHT), (identity(theirs), RIGHT)).await;
            assert_eq!(caller.unwrap().peer, identity(theirs));
            let server = server.unwrap();
            assert_eq!((server.peer, server.channel), (identity(ours), Channel::Bulk));
        }
    }

    #[tokio::test]
    async fn another_cluster_and_another_secret_are_refused_with_a_reason() {
        let (caller, server) = shake((identity(Some(1)), RIGHT), (identity(Some(2)), RIGHT)).await;
        assert!(matches!(caller, Err(HandshakeError::Refused(reason)) if reason == OTHER_CLUSTER));
        assert!(matches!(server, Err(HandshakeError::Refused(_))));

        let (caller, server) = shake((identity(None), RIGHT), (identity(None), "another long secret")).await;
        assert!(matches!(caller, Err(HandshakeError::Refused(reason)) if reason.contains("secrets differ")));
        assert!(matches!(server, Err(HandshakeError::Refused(_))));
    }

    #[tokio::test]
    async fn a_server_that_does_not_know_the_secret_is_noticed() {
        let (mut near, mut far) = duplex(4096);
        let ours = secret(RIGHT);
        let impostor = async {
            let hello = read_message(&mut far).await.unwrap();
            let challenge = encode(&Challenge::Accepted { version: VERSION, nonce: [0; 32], identity: identity(None) });
            write_message(&mut far, &challenge).await.unwrap();
            // The caller's own proof, reflected.
            let proof = read_message(&mut far).await.unwrap().try_into().unwrap();
            write_message(&mut far, &encode(&Verdict::Welcome { proof })).await.unwrap();
            hello.len()
        };
        let (caller, _) = tokio::join!(connect(&mut near, Channel::Control, identity(None), &ours), impostor);
        assert!(matches!(caller, Err(HandshakeError::Refused(_))));
    }

    #[tokio::test]
    async fn another_version_is_refused_with_a_reason() {
        let (mut near, mut far) = duplex(4096);
        let newer = Hello {
            magic: MAGIC,
            version_min: VERSION + 1,
            version_max: VERSION + 2,
            channel: Channel::Control,
            nonce: [0; 32],
            identity: identity(None),
        };
        let ours = secret(RIGHT);
        let caller = async {
            write_message(&mut near, &encode(&newer)).await.unwrap();
            decode::<Challenge>(&read_message(&mut near).await.unwrap()).unwrap()
        };
        let (server, answer) = tokio::join!(accept(&mut far, identity(None), &ours), caller);
        assert!(server.is_err());
        assert!(matches!(answer, Challenge::Refused { reason } if reason.contains("version")));
    }

    #[tokio::test]
    async fn a_stranger_is_cut_off_early() {
        let (mut near, mut far) = duplex(4096);
        near.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let refused = accept(&mut far, identity(None), &secret(RIGHT)).await;
        assert!(matches!(refused, Err(HandshakeError::Refused(_))));
    }

    #[tokio::test]
    async fn silence_is_not_waited_for() {
        let silent = in_time(Duration::from_millis(1), std::future::pending()).await;
        assert!(matches!(silent, Err(HandshakeError::Io(error)) if error.kind() == io::ErrorKind::TimedOut));
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let (version_min, version_max, channel) = (1, 2, Channel::Bulk);
        let hello =
            Hello { magic: MAGIC, version_min, version_max, channel, nonce: [3; 32], identity: identity(Some(9)) };
        let parts =
            ["616e6e756c7573", "01", "02", "01", &"03".repeat(32), &"01".repeat(16), "0107", "01", &"09".repeat(16)];
        assert_eq!(hex::encode(encode(&hello)), parts.concat());
    }

    #[test]
    fn the_secret_is_never_shown_and_never_short() {
        assert!(!format!("{:?}", secret(RIGHT)).contains("horse"));
        assert!(ClusterSecret::parse("short").is_err());
        assert!(ClusterSecret::parse(&ClusterSecret::generate_text()).is_ok());
    }
}

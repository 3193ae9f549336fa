//! Temporary credentials that every gateway can check and none has to remember: an access key whose secret follows from it
//! and from the cluster's master key, and a token that says what the session may do, sealed by a key that is derived the same
//! way. See "Temporary security credentials in IAM" in the IAM user guide.

use annulus_common::object::UserId;
use annulus_common::policy::IdentityPolicy;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use crate::kms::{MasterKeys, SecretKey};

/// What ids of temporary access keys begin with, as AWS's do.
const KEY_PREFIX: &str = "ASIA";

/// Characters of a temporary access key: the prefix, those that name the master key, those that were drawn.
const MASTER_CHARS: usize = 3;
const DRAWN_CHARS: usize = 13;

/// What access keys are made of.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Characters of a secret, as AWS's have.
const SECRET_CHARS: usize = 40;

/// The largest token that is looked at: one with the largest policy is 12 KiB.
const TOKEN_CHARS_MAX: usize = 16 << 10;

/// The first byte of a token.
const FORMAT: u8 = 1;

const SALT_BYTES: usize = 16;

/// Every token is sealed under a key of its own, so none needs a nonce.
const NONCE: [u8; 12] = [0; 12];

/// Whose session it is, and what it may do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    /// The account.
    pub(crate) account: UserId,
    /// Who in it.
    pub(crate) of: SessionOf,
    /// What the session was opened with, and may do nothing beyond.
    pub(crate) policy: Option<IdentityPolicy>,
    /// Managed policies that go with it, by ARN.
    pub(crate) policy_arns: Vec<String>,
    /// Unix milliseconds.
    pub(crate) issued_ms: u64,
    /// Unix milliseconds.
    pub(crate) expires_ms: u64,
}

/// Who in an account has a session. Another user or role of the same name is not meant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum SessionOf {
    /// The account itself.
    Account,
    /// A user.
    User {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
    },
    /// Somebody who assumed a role.
    Role {
        /// The role's name.
        name: String,
        /// The role's id.
        id: String,
        /// The session's name.
        session: String,
    },
}

/// What a client gets for a session.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) token: String,
}

/// Opens sessions and checks them.
#[derive(Clone)]
pub struct Sessions {
    /// Of the current master key, and of those before it.
    keys: Vec<Keys>,
}

/// What is derived of a master key.
#[derive(Clone)]
struct Keys {
    name: String,
    secrets: SecretKey,
    tokens: SecretKey,
}

/// The system gives no random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub(crate) struct NoRandomness;

impl Sessions {
    /// Sessions of a cluster with these master keys: what an earlier one opened holds until it expires.
    pub fn new(masters: &MasterKeys) -> Self {
        let keys = |purpose: &'static [u8]| masters.derived(purpose);
        let names = keys(b"annulus session name 1").into_iter().map(|key| letters(&key.expose()[..MASTER_CHARS]));
        let secrets = keys(b"annulus session secret 1");
        let tokens = keys(b"annulus session token 1");
        let keys = names.zip(secrets).zip(tokens).map(|((name, secrets), tokens)| Keys { name, secrets, tokens });
        Self { keys: keys.collect() }
    }

    /// Credentials for a session.
    pub(crate) fn open(&self, session: &Session) -> Result<Credentials, NoRandomness> {
        let keys = self.keys.first().ok_or(NoRandomness)?;
        let drawn = SecretKey::draw().map_err(|_| NoRandomness)?;
        let (letters_of, salt) = drawn.expose().split_at(DRAWN_CHARS);
        let access_key = format!("{KEY_PREFIX}{}{}", keys.name, letters(letters_of));
        let salt = &salt[..SALT_BYTES];
        let mut sealed = postcard::to_stdvec(session).expect("a session is plain data, which always encodes");
        let cipher = keys.cipher(salt);
        cipher
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(NONCE),
                Aad::from(access_key.as_bytes()),
                &mut sealed,
            )
            .expect("a session is far smaller than what AES-GCM seals");
        let token = BASE64.encode([&[FORMAT], salt, &sealed].concat());
        Ok(Credentials { secret_key: keys.secret_of(&access_key), token, access_key })
    }

    /// The secret of a temporary access key; nothing for any other.
    pub(crate) fn secret_of(&self, access_key: &str) -> Option<String> {
        self.keys_of(access_key).map(|keys| keys.secret_of(access_key))
    }

    /// Whether the id is one of a temporary key.
    pub(crate) fn is_temporary(access_key: &str) -> bool {
        access_key.starts_with(KEY_PREFIX)
    }

    /// The session that a token of this access key says; nothing when it was not sealed here for this key.
    pub(crate) fn read(&self, access_key: &str, token: &str) -> Option<Session> {
        if token.len() > TOKEN_CHARS_MAX {
            return None;
        }
        let token = BASE64.decode(token).ok()?;
        let (&FORMAT, rest) = token.split_first()? else { return None };
        let (salt, sealed) = rest.split_at_checked(SALT_BYTES)?;
        let mut sealed = sealed.to_vec();
        let cipher = self.keys_of(access_key)?.cipher(salt);
        let aad = Aad::from(access_key.as_bytes());
        let opened = cipher.open_in_place(Nonce::assume_unique_for_key(NONCE), aad, &mut sealed).ok()?;
        postcard::from_bytes(opened).ok()
    }

    fn keys_of(&self, access_key: &str) -> Option<&Keys> {
        let rest = access_key.strip_prefix(KEY_PREFIX)?;
        let name = rest.get(..MASTER_CHARS).filter(|_| rest.len() == MASTER_CHARS + DRAWN_CHARS)?;
        self.keys.iter().find(|keys| keys.name == name)
    }
}

impl Keys {
    fn secret_of(&self, access_key: &str) -> String {
        let secret = self.secrets.expand(&[access_key.as_bytes()]);
        BASE64.encode(secret.expose()).chars().take(SECRET_CHARS).collect()
    }

    fn cipher(&self, salt: &[u8]) -> LessSafeKey {
        let key = self.tokens.derive(salt, &[b"token"]);
        LessSafeKey::new(
            UnboundKey::new(&AES_256_GCM, key.expose()).expect("the key has as many bytes as AES-256 takes"),
        )
    }
}

fn letters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use annulus_common::object::UserId;
    use annulus_common::policy::IdentityPolicy;

    use super::{Session, SessionOf, Sessions};
    use crate::kms::{MasterKey, MasterKeys, SecretKey};

    fn master(byte: u8) -> MasterKey {
        MasterKey::new(SecretKey::new([byte; 32]))
    }

    fn session() -> Session {
        let text = r#"{"Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}}"#;
        Session {
            account: UserId([1; 32]),
            of: SessionOf::Role { name: "r".to_owned(), id: "AROA".to_owned(), session: "s".to_owned() },
            policy: Some(IdentityPolicy::parse(text.to_owned()).unwrap()),
            policy_arns: vec!["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess".to_owned()],
            issued_ms: 1,
            expires_ms: 2,
        }
    }

    #[test]
    fn every_gateway_of_the_cluster_reads_a_token_and_no_other() {
        let here = Sessions::new(&MasterKeys::new(master(1), Vec::new()));
        let there = Sessions::new(&MasterKeys::new(master(1), Vec::new()));
        let later = Sessions::new(&MasterKeys::new(master(2), vec![master(1)]));
        let elsewhere = Sessions::new(&MasterKeys::new(master(3), Vec::new()));
        let credentials = here.open(&session()).unwrap();
        let key = credentials.access_key.as_str();
        assert_eq!((key.len(), credentials.secret_key.len()), (20, 40));
        for sessions in [&here, &there, &later] {
            assert_eq!(sessions.secret_of(key).as_ref(), Some(&credentials.secret_key));
            assert_eq!(sessions.read(key, &credentials.token), Some(session()));
        }
        assert_eq!(elsewhere.read(key, &credentials.token), None);
        assert_eq!(elsewhere.secret_of(key), None);
        assert_eq!(here.secret_of("AKIAIOSFODNN7EXAMPLE"), None);
    }

    #[test]
    fn a_token_that_was_changed_or_is_another_keys_says_nothing() {
        let sessions = Sessions::new(&MasterKeys::new(master(1), Vec::new()));
        let (one, other) = (sessions.open(&session()).unwrap(), sessions.open(&session()).unwrap());
        assert_ne!(one.secret_key, other.secret_key);
        assert_eq!(sessions.read(&other.access_key, &one.token), None);
        for at in [0, 5, 40, one.token.len() - 3] {
            let mut changed = one.token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(sessions.read(&one.access_key, &String::from_utf8(changed).unwrap()), None, "{at}");
        }
        for garbage in ["", "AA==", "not base64", &"A".repeat(20_000)] {
            assert_eq!(sessions.read(&one.access_key, garbage), None);
        }
    }
}

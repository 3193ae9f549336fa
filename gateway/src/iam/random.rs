//! Ids and secrets, of the lengths and the alphabets that AWS's have, from the system's cryptographic generator.

use annulus_common::iam::Kind;
use rand::Rng;

const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The public id of a lasting access key.
pub(crate) fn access_key_id() -> String {
    format!("AKIA{}", text(16, LETTERS))
}

/// What an access key signs with.
pub(crate) fn secret_key() -> String {
    text(40, SECRET_LETTERS)
}

/// The id of a user, a group, a role or a policy.
pub(super) fn entity_id(kind: Kind) -> String {
    let prefix = match kind {
        Kind::User => "AIDA",
        Kind::Group => "AGPA",
        Kind::Role => "AROA",
        Kind::Policy => "ANPA",
    };
    format!("{prefix}{}", text(17, LETTERS))
}

fn text(chars: usize, alphabet: &[u8]) -> String {
    let mut random = rand::rng();
    (0..chars).map(|_| char::from(alphabet[random.random_range(0..alphabet.len())])).collect()
}

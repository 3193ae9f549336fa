//! Envelopes: a key encrypted under another key, for one purpose. Pure but for the random bytes.
//!
//! The key that encrypts is derived from the wrapping key and a fresh salt, so it wraps once and needs no nonce of its own: a
//! wrapping key may wrap any number of keys. A purpose that differs, in one byte of it, derives another key.

use std::fmt;

use annulus_common::encryption::WrappedKey;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use super::KeyError;
use super::secret::{KEY_BYTES, SecretKey, draw_bytes};

/// Begins every purpose, so that no other use of a key derives the same.
const LABEL: &[u8] = b"annulus key wrap 1";

/// The wrapping key of the purpose is used once.
const NONCE: [u8; 12] = [0; 12];

/// The key that a client sends with its requests (SSE-C).
#[derive(Clone)]
pub struct CustomerKey {
    key: SecretKey,
    /// `x-amz-server-side-encryption-customer-key-MD5` as the client wrote it: goes back with the answer.
    pub md5: String,
}

impl CustomerKey {
    /// A key with its MD5, which the caller has compared.
    pub fn new(key: SecretKey, md5: String) -> Self {
        Self { key, md5 }
    }
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(***)")
    }
}

/// Draws a data key and wraps it by the client's key.
pub(crate) fn seal_for_customer(customer: &CustomerKey, context: &[u8]) -> Result<(SecretKey, WrappedKey), KeyError> {
    let data_key = SecretKey::draw()?;
    let wrapped = seal(&customer.key, 0, &data_key, context)?;
    Ok((data_key, wrapped))
}

/// Unwraps a data key; nothing when the client's key is another one. No digest of the client's key is stored to tell: the
/// envelope's salted tag does.
pub(crate) fn open_for_customer(customer: &CustomerKey, wrapped: &WrappedKey, context: &[u8]) -> Option<SecretKey> {
    open(&customer.key, wrapped, context)
}

/// Wraps `key` by version `version` of the key `wrapping`.
pub(super) fn seal(
    wrapping: &SecretKey,
    version: u32,
    key: &SecretKey,
    context: &[u8],
) -> Result<WrappedKey, KeyError> {
    let salt = draw_bytes()?;
    let mut sealed = *key.expose();
    let tag = cipher(wrapping, version, &salt, context)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(NONCE), Aad::empty(), &mut sealed)
        .map_err(|_| KeyError::Damaged)?;
    let tag = tag.as_ref().try_into().map_err(|_| KeyError::Damaged)?;
    Ok(WrappedKey { version, salt, sealed, tag })
}

/// Unwraps a key; nothing when it was wrapped by another key, or for another purpose, or is damaged.
pub(super) fn open(wrapping: &SecretKey, wrapped: &WrappedKey, context: &[u8]) -> Option<SecretKey> {
    let mut bytes = [0; KEY_BYTES + 16];
    bytes[..KEY_BYTES].copy_from_slice(&wrapped.sealed);
    bytes[KEY_BYTES..].copy_from_slice(&wrapped.tag);
    let cipher = cipher(wrapping, wrapped.version, &wrapped.salt, context);
    let opened = cipher.open_in_place(Nonce::assume_unique_for_key(NONCE), Aad::empty(), &mut bytes);
    let key = opened.ok().and_then(|key| <[u8; KEY_BYTES]>::try_from(&*key).ok()).map(SecretKey::new);
    bytes.zeroize();
    key
}

fn cipher(wrapping: &SecretKey, version: u32, salt: &[u8], context: &[u8]) -> LessSafeKey {
    let key = wrapping.derive(salt, &[LABEL, &version.to_be_bytes(), context]);
    let key = UnboundKey::new(&AES_256_GCM, key.expose()).expect("the key has as many bytes as AES-256 takes");
    LessSafeKey::new(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{SecretKey, open, seal};

    proptest! {
        #[test]
        fn an_envelope_opens_for_its_key_and_purpose_alone(
            wrapping: [u8; 32], key: [u8; 32], version: u32, context in any::<Vec<u8>>(), bit in 0usize..64 * 8
        ) {
            let wrapping_key = SecretKey::new(wrapping);
            let wrapped = seal(&wrapping_key, version, &SecretKey::new(key), &context).unwrap();
            let opened = open(&wrapping_key, &wrapped, &context).unwrap();
            prop_assert_eq!(opened.expose(), &key);

            let mut other_key = wrapping;
            other_key[bit / 16 % 32] ^= 1 << (bit % 8);
            prop_assert!(open(&SecretKey::new(other_key), &wrapped, &context).is_none());
            let mut other_context = context.clone();
            other_context.push(0);
            prop_assert!(open(&wrapping_key, &wrapped, &other_context).is_none());
            let mut damaged = wrapped;
            match bit / 8 {
                byte @ 0..16 => damaged.salt[byte] ^= 1 << (bit % 8),
                byte @ 16..48 => damaged.sealed[byte - 16] ^= 1 << (bit % 8),
                byte => damaged.tag[byte - 48] ^= 1 << (bit % 8),
            }
            prop_assert!(open(&wrapping_key, &damaged, &context).is_none());
            damaged = wrapped;
            damaged.version ^= 1 << (bit % 32);
            prop_assert!(open(&wrapping_key, &damaged, &context).is_none());
        }
    }
}

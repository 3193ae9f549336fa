//! A 256-bit key in memory: never shown, wiped when dropped. What is derived from it is another one.

use std::fmt;

use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::KeyError;

/// Bytes of an AES-256 key.
pub(crate) const KEY_BYTES: usize = 32;

/// A key.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; KEY_BYTES]>);

impl SecretKey {
    /// The key of these bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A key of the system's cryptographic generator.
    pub fn draw() -> Result<Self, KeyError> {
        Ok(Self::new(draw_bytes()?))
    }

    /// The bytes, for a cipher and nothing else.
    pub(crate) fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key that HKDF (RFC 5869) makes of this one, a salt, and what it is for.
    pub(crate) fn derive(&self, salt: &[u8], purpose: &[&[u8]]) -> SecretKey {
        expand(&Salt::new(HKDF_SHA256, salt).extract(self.expose()), purpose)
    }

    /// The same without a salt: this key is random already (RFC 5869, section 3.3).
    pub(crate) fn expand(&self, purpose: &[&[u8]]) -> SecretKey {
        expand(&Prk::new_less_safe(HKDF_SHA256, self.expose()), purpose)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Bytes of the system's cryptographic generator.
pub(super) fn draw_bytes<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
    Ok(bytes)
}

fn expand(key: &Prk, purpose: &[&[u8]]) -> SecretKey {
    let mut derived = Zeroizing::new([0; KEY_BYTES]);
    let filled = key.expand(purpose, KeyLength).and_then(|output| output.fill(&mut *derived));
    filled.expect("HKDF-SHA256 gives up to 8,160 bytes, and 32 are asked for");
    SecretKey(derived)
}

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::SecretKey;

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", SecretKey::new([7; 32])), "***");
    }

    #[test]
    fn derived_keys_follow_from_all_of_it() {
        let key = SecretKey::new([7; 32]);
        let derived = key.derive(b"salt", &[b"a", b"b"]);
        assert_eq!(derived.expose(), key.derive(b"salt", &[b"a", b"b"]).expose());
        for other in [key.derive(b"salT", &[b"a", b"b"]), key.derive(b"salt", &[b"a"]), key.expand(&[b"a", b"b"])] {
            assert_ne!(derived.expose(), other.expose());
        }
    }

    /// RFC 5869, appendix A.1, cut to 32 bytes: the input there has 22 bytes, so the extracted key is where we begin.
    #[test]
    fn expansion_is_hkdf() {
        let mut extracted = [0; 32];
        hex::decode_to_slice("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5", &mut extracted)
            .unwrap();
        let info = hex::decode("f0f1f2f3f4f5f6f7f8f9").unwrap();
        let expanded = SecretKey::new(extracted).expand(&[&info]);
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(hex::encode(expanded.expose()), expected);
    }
}

//! From a file's name to a key: its last path segment, without control characters. Pure.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::error::UploadError;

/// The longest key, as S3 says.
const NAME_BYTES_MAX: usize = 1_024;

/// What a path segment of a URL cannot hold as it is.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'/')
    .add(b'+');

/// The key of a file that is called `name` on the client's machine, whichever way that writes paths.
pub(super) fn sanitise(name: &str) -> Result<String, UploadError> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let key: String = last.chars().filter(|character| !character.is_control()).collect();
    match key.trim() {
        "" | "." | ".." => Err(UploadError::BadName),
        key if key.len() > NAME_BYTES_MAX => Err(UploadError::BadName),
        key => Ok(key.to_owned()),
    }
}

/// The key that the rest of a URL's path names.
pub(super) fn decode(path: &str) -> Result<String, UploadError> {
    percent_decode_str(path).decode_utf8().map(|key| key.into_owned()).map_err(|_| UploadError::BadName)
}

/// A key as the rest of a URL's path.
pub(super) fn encode(key: &str) -> String {
    utf8_percent_encode(key, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{decode, encode, sanitise};

    #[test]
    fn a_name_loses_its_path_and_its_control_characters() {
        for (name, key) in [
            ("photo.jpg", "photo.jpg"),
            ("/etc/passwd", "passwd"),
            ("C:\\Users\\me\\a b.txt", "a b.txt"),
            ("../../up", "up"),
            ("a\nb\u{7f}.txt", "ab.txt"),
            (" spaced ", "spaced"),
        ] {
            assert_eq!(sanitise(name).ok().as_deref(), Some(key), "{name:?}");
        }
    }

    #[test]
    fn a_name_that_is_no_name_is_refused() {
        for name in ["", ".", "..", "a/", "/", "\\", "\n", &"x".repeat(1_025)] {
            assert!(sanitise(name).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn an_address_names_the_same_file(name in "\\PC{1,40}") {
            if let Ok(key) = sanitise(&name) {
                prop_assert_eq!(decode(&encode(&key)).ok(), Some(key));
            }
        }
    }
}

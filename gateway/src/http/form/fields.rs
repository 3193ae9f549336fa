//! Reads a form up to its file: the fields, whose names count without their case, and the file's beginning. What comes
//! after the file is ignored, as S3 does: browsers send the button there.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use multer::{Field, Multipart};

use super::error::FormError;
use crate::gate::{Gate, NotFound};
use crate::object::KEY_BYTES_MAX;

/// Everything before the file, as S3 says.
const FIELDS_BYTES_MAX: usize = 20 << 10;

/// Fields before the file: each has a header of its own, so that 20 KiB hold no more than some hundreds.
const FIELDS_MAX: usize = 512;

/// What the fields may hold once the file's name stands in them: a field of 20 KiB can say it 1,800 times, and that before
/// anybody has been asked who they are. The longest field that S3 takes, a key or metadata, has no more than 2 KiB.
const SETTLED_BYTES_MAX: usize = 64 << 10;

/// How long the client may take for them.
const FIELDS_WAIT: Duration = Duration::from_secs(60);

/// The field that is the file.
const FILE: &str = "file";

/// In a field's value it stands for the file's name.
const FILE_NAME: &str = "${filename}";

/// Fields that mean what they are, whatever they hold.
const LITERAL: &[&str] = &["policy", "signature", "x-amz-signature"];

/// A form as far as its file.
pub(super) struct Form {
    pub(super) fields: Fields,
    pub(super) file: File,
}

/// The fields before the file, by their names in lower case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Fields(BTreeMap<String, String>);

/// The file, as it arrives.
pub(super) struct File {
    /// Its name, without the path that some browsers send.
    pub(super) name: String,
    /// Its bytes.
    pub(super) bytes: Field<'static>,
}

impl Form {
    /// Reads the fields.
    pub(super) async fn read(headers: &HeaderMap, body: Incoming) -> Result<Self, FormError> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let boundary = multer::parse_boundary(content_type).map_err(|_| FormError::Malformed)?;
        let gate = Gate::new(FIELDS_BYTES_MAX);
        let mut form = Multipart::new(gate.before(BodyDataStream::new(body)), boundary);
        let read = Self::read_fields(&mut form, &gate);
        tokio::time::timeout(FIELDS_WAIT, read).await.unwrap_or(Err(FormError::TimedOut))
    }

    async fn read_fields(form: &mut Multipart<'static>, gate: &Gate) -> Result<Self, FormError> {
        let mut fields = Fields::default();
        let mut bytes = 0;
        while let Some(mut field) = gate.watch(|cx| form.poll_next_field(cx)).await? {
            let name = field.name().filter(|name| !name.is_empty()).ok_or(FormError::Malformed)?.to_ascii_lowercase();
            if name == FILE {
                gate.open();
                let name = base_name(field.file_name().unwrap_or_default()).to_owned();
                return Ok(Self { fields, file: File { name, bytes: field } });
            }
            let mut value = Vec::new();
            while let Some(piece) = gate.watch(|cx| Pin::new(&mut field).poll_next(cx).map(Option::transpose)).await? {
                value.extend_from_slice(&piece);
                if bytes + name.len() + value.len() > FIELDS_BYTES_MAX {
                    return Err(FormError::FieldsTooLarge);
                }
            }
            bytes += name.len() + value.len();
            fields.add(name, value)?;
        }
        Err(FormError::NoFile)
    }
}

impl Fields {
    fn add(&mut self, name: String, value: Vec<u8>) -> Result<(), FormError> {
        let value = String::from_utf8(value).map_err(|_| FormError::Malformed)?;
        if self.0.len() == FIELDS_MAX {
            return Err(FormError::FieldsTooLarge);
        }
        // Which of two would be meant is anybody's guess, and the policy might judge the other.
        if self.0.insert(name, value).is_some() { Err(FormError::Malformed) } else { Ok(()) }
    }

    /// What the fields are once it is known where the form was posted and what its file is called: the path says the
    /// bucket, whatever the field says.
    pub(super) fn settle(&mut self, bucket: &str, file_name: &str) -> Result<(), FormError> {
        let stands_in = |name: &str| !LITERAL.contains(&name);
        let named =
            self.0.iter().filter(|(name, _)| stands_in(name)).map(|(_, value)| value.matches(FILE_NAME).count());
        if named.sum::<usize>().saturating_mul(file_name.len()) > SETTLED_BYTES_MAX {
            return Err(FormError::FieldsTooLarge);
        }
        for (name, value) in &mut self.0 {
            if stands_in(name) && value.contains(FILE_NAME) {
                *value = value.replace(FILE_NAME, file_name);
            }
        }
        self.0.insert("bucket".to_owned(), bucket.to_owned());
        Ok(())
    }

    /// The value of a field, by its name in lower case.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The key of the object.
    pub(super) fn key(&self) -> Result<&str, FormError> {
        match self.get("key") {
            None => Err(FormError::Missing("key")),
            Some("") => Err(FormError::EmptyKey),
            Some(key) if key.len() > KEY_BYTES_MAX => Err(FormError::KeyTooLong(key.len())),
            Some(key) => Ok(key),
        }
    }

    /// All fields.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Fields {
    fn from(fields: [(&str, &str); N]) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// Some browsers send the path of the file too.
fn base_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or_default()
}

impl From<NotFound> for FormError {
    fn from(error: NotFound) -> Self {
        match error {
            NotFound::TooFar => Self::FieldsTooLarge,
            NotFound::Form(multer::Error::StreamReadFailed(_)) => Self::Truncated,
            NotFound::Form(_) => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FILE_NAME, Fields, SETTLED_BYTES_MAX, base_name};
    use crate::http::form::error::FormError;
    use crate::object::KEY_BYTES_MAX;

    #[test]
    fn a_field_is_said_once() {
        let mut fields = Fields::default();
        assert_eq!(fields.add("key".to_owned(), b"a".to_vec()), Ok(()));
        assert_eq!(fields.add("key".to_owned(), b"a".to_vec()), Err(FormError::Malformed));
        assert_eq!(fields.add("acl".to_owned(), vec![0xff]), Err(FormError::Malformed));
    }

    #[test]
    fn the_name_of_the_file_stands_in_every_field_but_what_is_signed() {
        let mut fields = Fields::from([
            ("key", "user/${filename}"),
            ("x-amz-meta-name", "${filename}${filename}"),
            ("policy", "${filename}"),
            ("bucket", "another"),
        ]);
        assert_eq!(fields.settle("photos", "me.jpg"), Ok(()));
        assert_eq!(fields.key(), Ok("user/me.jpg"));
        assert_eq!(fields.get("x-amz-meta-name"), Some("me.jpgme.jpg"));
        assert_eq!(fields.get("policy"), Some("${filename}"));
        assert_eq!(fields.get("bucket"), Some("photos"));
    }

    #[test]
    fn the_name_of_the_file_makes_no_field_huge() {
        let named = FILE_NAME.repeat(1_000);
        let mut fields = Fields::from([("key", named.as_str()), ("policy", named.as_str())]);
        let before = fields.clone();
        let name = "n".repeat(SETTLED_BYTES_MAX / 1_000 + 1);
        assert_eq!(fields.settle("photos", &name), Err(FormError::FieldsTooLarge));
        assert_eq!(fields, before);
        assert_eq!(fields.settle("photos", &name[1..]), Ok(()));
        // A name that stands nowhere may be as long as it likes.
        let mut fields = Fields::from([("key", "k"), ("policy", FILE_NAME)]);
        assert_eq!(fields.settle("photos", &"n".repeat(2 * SETTLED_BYTES_MAX)), Ok(()));
    }

    #[test]
    fn a_key_is_needed_and_bounded() {
        assert_eq!(Fields::default().key(), Err(FormError::Missing("key")));
        assert_eq!(Fields::from([("key", "")]).key(), Err(FormError::EmptyKey));
        let longest = "k".repeat(KEY_BYTES_MAX);
        assert_eq!(Fields::from([("key", longest.as_str())]).key(), Ok(longest.as_str()));
        let error = FormError::KeyTooLong(KEY_BYTES_MAX + 1);
        assert_eq!(Fields::from([("key", format!("{longest}k").as_str())]).key(), Err(error));
    }

    #[test]
    fn a_file_has_no_path() {
        assert_eq!(base_name("C:\\Program Files\\directory1\\file.txt"), "file.txt");
        assert_eq!(base_name("/home/me/file.txt"), "file.txt");
        assert_eq!(base_name("file.txt"), "file.txt");
        assert_eq!(base_name(""), "");
    }
}

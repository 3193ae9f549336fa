//! Files come in: each field of the form that has a file name is stored as it arrives, in bounded memory.

use annulus_common::condition::Conditions;
use annulus_common::map::Bucket;
use annulus_common::notification::Means;
use annulus_common::object::{ObjectAttributes, ObjectHeaders};
use futures::TryStreamExt;
use http::Response;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use multer::{Field, Multipart};

use super::error::{StoredFile, UploadError, response, stored};
use super::{Upload, name};
use crate::auth::action::PUT_OBJECT;
use crate::auth::{Access, Operation, Resource, StoredKey};
use crate::events::cause_of;
use crate::gate::{Gate, NotFound};
use crate::http::HandlerBody;
use crate::object::{BodyError, Encrypt, Expected, OBJECT_BYTES_MAX, ObjectError, PutObject};
use crate::request::origin;
use crate::routes::UPLOAD_PATH;
use crate::steady::Steady;

/// Files in one request: more are better sent in several, which can be repeated one by one.
const FILES_MAX: usize = 1_000;

/// What is read before a part begins, its head with it: a name of 1,024 bytes, some headers, and what stands before a form.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A form, part by part. Only their heads are held.
struct Form {
    parts: Multipart<'static>,
    gate: Gate,
}

impl Form {
    fn new(body: Incoming, boundary: String) -> Self {
        let body: Steady<_, hyper::Error> = Steady::new(BodyDataStream::new(body), |_| BodyError::Disconnected);
        let gate = Gate::new(HEAD_BYTES_MAX);
        Self { parts: Multipart::new(gate.before(body), boundary), gate }
    }

    /// The next part. The one before has been read to its end.
    async fn next(&mut self) -> Result<Option<Field<'static>>, UploadError> {
        let Self { parts, gate } = self;
        gate.close();
        let found = gate.watch(|cx| parts.poll_next_field(cx)).await.map_err(|error| match error {
            NotFound::TooFar => UploadError::LongHead(HEAD_BYTES_MAX),
            NotFound::Form(error) => failed(&error),
        })?;
        gate.open();
        Ok(found)
    }
}

impl Upload {
    /// A file that fails ends the request; those before it are stored, and the answer says which.
    pub(super) async fn receive(
        &self,
        head: &Parts,
        body: Incoming,
        bucket: &Bucket,
        access: &Access,
    ) -> Result<Response<HandlerBody>, UploadError> {
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let boundary = multer::parse_boundary(content_type).map_err(|_| UploadError::NotAForm)?;
        let mut form = Form::new(body, boundary);
        let mut files = Vec::new();
        let all = self.store_all(&mut form, head, (bucket, access), &mut files).await;
        if let Some(operation) = head.extensions.get::<Operation>() {
            let record = |file: &StoredFile| StoredKey { key: file.key.clone(), bytes: file.size };
            operation.store(files.iter().map(record).collect());
        }
        match all {
            Ok(()) => Ok(stored(&files)),
            Err(error) => Ok(response(&error, &files)),
        }
    }

    async fn store_all(
        &self,
        form: &mut Form,
        head: &Parts,
        (bucket, access): (&Bucket, &Access),
        files: &mut Vec<StoredFile>,
    ) -> Result<(), UploadError> {
        while let Some(mut field) = form.next().await? {
            let Some(file_name) = field.file_name() else {
                // It is a form's button or text: nobody asked to store it.
                while field.chunk().await.map_err(|error| failed(&error))?.is_some() {}
                continue;
            };
            if files.len() == FILES_MAX {
                return Err(UploadError::TooManyFiles(FILES_MAX));
            }
            let key = name::sanitise(file_name)?;
            if !access.may(PUT_OBJECT, &Resource::key(&self.config.bucket, bucket, &key)) {
                return Err(UploadError::AccessDenied);
            }
            files.push(self.store(field, key, head, bucket).await?);
        }
        if files.is_empty() { Err(UploadError::NoFile) } else { Ok(()) }
    }

    async fn store(
        &self,
        field: Field<'static>,
        key: String,
        head: &Parts,
        bucket: &Bucket,
    ) -> Result<StoredFile, UploadError> {
        let stored_headers =
            ObjectHeaders { content_type: field.content_type().map(ToString::to_string), ..ObjectHeaders::default() };
        let put = PutObject {
            bucket,
            key: &key,
            owner: bucket.owner,
            headers: stored_headers,
            attributes: ObjectAttributes::default(),
            conditions: Conditions::default(),
            content_length: None,
            held_back_max: 0,
            bytes_max: OBJECT_BYTES_MAX,
            digest: Expected::default(),
            encrypt: Encrypt::default_of(bucket),
        };
        let objects = self.objects.because_of(cause_of(&head.extensions, Means::Post));
        let written = objects.put(put, Box::pin(field.map_err(|error| body_error(&error)))).await?;
        let checksum = written.checksum.map(|checksum| checksum.value().into());
        Ok(StoredFile {
            url: url(head, &key),
            key,
            bucket: self.config.bucket.clone(),
            size: written.size,
            etag: written.etag.to_string(),
            checksum,
        })
    }
}

fn failed(error: &multer::Error) -> UploadError {
    ObjectError::Body(body_error(error)).into()
}

fn body_error(error: &multer::Error) -> BodyError {
    match error {
        multer::Error::StreamReadFailed(source) => {
            source.downcast_ref::<BodyError>().copied().unwrap_or(BodyError::Disconnected)
        }
        multer::Error::IncompleteFieldData { .. } | multer::Error::IncompleteStream => BodyError::Truncated,
        _ => BodyError::Malformed,
    }
}

fn url(head: &Parts, key: &str) -> String {
    let origin = origin(&head.headers, &head.extensions).unwrap_or_default();
    format!("{origin}{UPLOAD_PATH}/{}", name::encode(key))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use multer::Multipart;

    use super::body_error;
    use crate::object::BodyError;

    #[tokio::test]
    async fn what_is_wrong_with_the_body_is_found_in_the_error_of_its_form() {
        for told in [BodyError::TimedOut, BodyError::Disconnected] {
            let pieces = futures::stream::iter([Ok(Bytes::from_static(b"--x\r\n")), Err(told)]);
            let error = Multipart::new(pieces, "x").next_field().await.expect_err("no field ever comes");
            assert_eq!(body_error(&error), told);
        }
    }
}

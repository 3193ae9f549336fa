//! Files come in: each field of the form that has a file name is stored as it arrives, in bounded memory.

use annulus_common::condition::Conditions;
use annulus_common::map::Bucket;
use annulus_common::notification::Means;
use annulus_common::object::{ObjectAttributes, ObjectHeaders};
use futures::TryStreamExt;
use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, Response};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use multer::{Field, Multipart};

use super::error::{StoredFile, UploadError, response, stored};
use super::{Upload, name};
use crate::auth::action::PUT_OBJECT;
use crate::auth::{Access, Operation, Resource, StoredKey};
use crate::events::cause_of;
use crate::http::HandlerBody;
use crate::object::{BodyError, Encrypt, Expected, OBJECT_BYTES_MAX, ObjectError, PutObject};
use crate::routes::UPLOAD_PATH;
use crate::steady::Steady;

/// Files in one request: more are better sent in several, which can be repeated one by one.
const FILES_MAX: usize = 1_000;

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
        let body: Steady<_, hyper::Error> = Steady::new(BodyDataStream::new(body), |_| BodyError::Disconnected);
        let mut form = Multipart::new(body, boundary);
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
        form: &mut Multipart<'static>,
        head: &Parts,
        (bucket, access): (&Bucket, &Access),
        files: &mut Vec<StoredFile>,
    ) -> Result<(), UploadError> {
        while let Some(field) = form.next_field().await.map_err(|error| ObjectError::Body(body_error(&error)))? {
            // A field without a file name is a form's button or text: nobody asked to store it.
            let Some(file_name) = field.file_name() else { continue };
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
            bytes_max: OBJECT_BYTES_MAX,
            digest: Expected::default(),
            encrypt: Encrypt::default_of(bucket),
        };
        let objects = self.objects.because_of(cause_of(&head.extensions, Means::Post));
        let written = objects.put(put, Box::pin(field.map_err(|error| body_error(&error)))).await?;
        let checksum = written.checksum.map(|checksum| checksum.value().into());
        Ok(StoredFile {
            url: url(&head.headers, &key),
            key,
            bucket: self.config.bucket.clone(),
            size: written.size,
            etag: written.etag.to_string(),
            checksum,
        })
    }
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

fn url(headers: &HeaderMap, key: &str) -> String {
    let path = format!("{UPLOAD_PATH}/{}", name::encode(key));
    match headers.get(HOST).and_then(|host| host.to_str().ok()) {
        Some(host) => format!("http://{host}{path}"),
        None => path,
    }
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

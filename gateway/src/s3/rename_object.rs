//! RenameObject: as AWS has it for directory buckets, here for every bucket.

use annulus_common::ids::RequestId;
use annulus_common::notification::Means;
use http::StatusCode;
use s3s::dto::{CopySource, RenameObjectInput, RenameObjectOutput};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use sha2::{Digest, Sha256};

use super::copy_object::source_of;
use super::error::{error_at, invalid_argument, s3_error, with_status};
use super::find_object::{Place, check_compares, find_source};
use super::{Gateway, access, condition};
use crate::auth::Resource;
use crate::auth::action::DELETE_OBJECT;
use crate::object::RenameObject;

/// The header that names what is renamed.
const SOURCE: &str = "x-amz-rename-source";

/// Headers that say when to rename.
const CONDITIONS: &[&str] = &[
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "x-amz-rename-source-if-match",
    "x-amz-rename-source-if-none-match",
    "x-amz-rename-source-if-modified-since",
    "x-amz-rename-source-if-unmodified-since",
];

/// The longest `x-amz-client-token`, as S3 says.
const TOKEN_BYTES_MAX: usize = 64;

pub(super) async fn rename_object(
    gateway: &Gateway,
    req: S3Request<RenameObjectInput>,
) -> S3Result<S3Response<RenameObjectOutput>> {
    let access = access(&req.extensions)?;
    let input = &req.input;
    let source = CopySource::parse(&input.rename_source)
        .map_err(|_| invalid_argument(SOURCE, "Rename source must mention the source bucket and key"))?;
    let place = source_of(&source)?;
    check_place(input, place)?;
    let request = match input.client_token.as_deref() {
        Some(token) => Some(claim(gateway, &req, token, place).await?),
        None => None,
    };
    let (bucket, found) = match find_source(gateway, access, place).await {
        Err(error) if *error.code() == S3ErrorCode::NoSuchKey => {
            return if was_done(gateway, input, request).await? { done() } else { Err(error) };
        }
        found => found?,
    };
    access.check(DELETE_OBJECT, &Resource::key(place.bucket, &bucket, place.key))?;
    let now_ms = gateway.objects.now_ms();
    let source = condition::of_source(
        &req.headers,
        SOURCE,
        input.source_if_modified_since.as_ref(),
        input.source_if_unmodified_since.as_ref(),
        now_ms,
    )?;
    condition::judge_source(&source, &found, SOURCE)?;
    let conditions = condition::of_read(
        &req.headers,
        input.destination_if_modified_since.as_ref(),
        input.destination_if_unmodified_since.as_ref(),
        now_ms,
    )?;
    check_compares(gateway, access, Place::current(&input.bucket, &input.key), &conditions).await?;
    let (from, to, caller) = (place.key.to_owned(), input.key.clone(), access.user());
    let objects = gateway.telling(&req.extensions, &bucket, Means::Copy);
    let rename = RenameObject { bucket, from, found, to, conditions, caller, request };
    objects.rename(rename).await.map_err(|error| error_at(&input.key, error))?;
    done()
}

fn done() -> S3Result<S3Response<RenameObjectOutput>> {
    Ok(S3Response::new(RenameObjectOutput::default()))
}

fn check_place(input: &RenameObjectInput, place: Place<'_>) -> S3Result {
    if place.bucket != input.bucket || place.version_id.is_some() {
        return Err(s3_error!(InvalidRequest, "The source and the destination of a rename are keys of one bucket."));
    }
    if place.key == input.key {
        return Err(s3_error!(InvalidRequest, "The source and the destination of a rename are the same."));
    }
    Ok(())
}

/// The name of a rename with a client's token: sent again, it is the same. The token itself is the account's, in
/// that bucket, and must not have been used for another rename. See `x-amz-client-token` of "RenameObject" in the S3 API
/// reference.
async fn claim(
    gateway: &Gateway,
    req: &S3Request<RenameObjectInput>,
    token: &str,
    place: Place<'_>,
) -> S3Result<RequestId> {
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "A client token has 1 to 64 printable ASCII characters.";
        return Err(invalid_argument("x-amz-client-token", message));
    }
    let account = access(&req.extensions)?.user().to_string();
    let mut asked = vec!["annulus rename 2", &account, token, place.bucket, place.key, &req.input.key];
    for name in CONDITIONS {
        asked.push(name);
        asked.extend(req.headers.get_all(*name).iter().filter_map(|value| value.to_str().ok()));
    }
    let (name, request) = (name_of(&["annulus token 1", &account, place.bucket, token]), name_of(&asked));
    let bucket = gateway.objects.bucket(place.bucket).await.map_err(s3_error)?;
    if gateway.objects.claim(&bucket, name, request).await.map_err(s3_error)? { Ok(request) } else { Err(mismatch()) }
}

fn name_of(texts: &[&str]) -> RequestId {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    let mut name = [0; 16];
    name.copy_from_slice(&hasher.finalize()[..16]);
    RequestId(name)
}

fn mismatch() -> S3Error {
    with_status(
        S3ErrorCode::Custom("IdempotencyParameterMismatch".into()),
        StatusCode::BAD_REQUEST,
        "The client token was used for a previous request, at least one parameter of which is different.",
    )
}

/// Whether the object that is there came by an earlier try of the same request.
async fn was_done(gateway: &Gateway, input: &RenameObjectInput, request: Option<RequestId>) -> S3Result<bool> {
    let Some(request) = request else { return Ok(false) };
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    gateway.objects.is_renamed_by(&bucket, &input.key, request).await.map_err(s3_error)
}

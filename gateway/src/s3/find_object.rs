//! Finding what an operation is about and whether the caller may: objects and uploads have owners of their own.

use annulus_common::condition::{Conditions, ETagCondition};
use annulus_common::ids::UploadId;
use annulus_common::map::Bucket;
use annulus_common::object::{ObjectVersion, UserId};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::error::s3_error;
use super::{Gateway, version};
use crate::auth::action::{Action, GET_OBJECT, PUT_OBJECT};
use crate::auth::{Access, Resource};
use crate::object::{ObjectError, PartPage, UploadPath};

/// Where a request says that an object is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    /// The version that it names.
    pub(super) version_id: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// The object that is at a key now.
    pub(super) fn current(bucket: &'a str, key: &'a str) -> Self {
        Self { bucket, key, version_id: None }
    }
}

/// The object and its bucket, if the caller may do that with it. That there is none is told to those alone who may list the
/// bucket.
pub(super) async fn find_object(
    gateway: &Gateway,
    access: &Access,
    place: Place<'_>,
    action: Action,
) -> S3Result<(Bucket, ObjectVersion)> {
    find_object_with(gateway, access, place, action, Vec::new()).await
}

/// The same, where the operation knows more for the conditions of policies.
pub(super) async fn find_object_with(
    gateway: &Gateway,
    access: &Access,
    place: Place<'_>,
    action: Action,
    more: Vec<(String, String)>,
) -> S3Result<(Bucket, ObjectVersion)> {
    find(gateway, access, place, (action, more), s3_error).await
}

/// The same, for what S3 does not do with a delete marker even where the request only finds one: changes, and all that is about
/// tags. To the rest, such a key is not there.
pub(super) async fn find_unmarked(
    gateway: &Gateway,
    access: &Access,
    place: Place<'_>,
    more: Vec<(String, String)>,
) -> S3Result<(Bucket, ObjectVersion)> {
    let refusal = |error| match error {
        ObjectError::Deleted(marker) => s3_error(ObjectError::IsDeleteMarker(marker)),
        error => s3_error(error),
    };
    find(gateway, access, place, (access.action(), more), refusal).await
}

async fn find(
    gateway: &Gateway,
    access: &Access,
    place: Place<'_>,
    (action, more): (Action, Vec<(String, String)>),
    refusal: fn(ObjectError) -> S3Error,
) -> S3Result<(Bucket, ObjectVersion)> {
    let version = version::asked(place.version_id)?;
    let bucket = gateway.objects.bucket(place.bucket).await.map_err(s3_error)?;
    match gateway.objects.get(&bucket, place.key, version).await {
        Ok(found) => {
            let object = Resource::object(place.bucket, &bucket, place.key, &found);
            access.check_with(action, &object.of_version(place.version_id.is_some()), more)?;
            Ok((bucket, found))
        }
        Err(
            ObjectError::NoSuchKey
            | ObjectError::NoSuchVersion
            | ObjectError::Deleted(_)
            | ObjectError::IsDeleteMarker(_),
        ) if !access.may_know_of(&Resource::key(place.bucket, &bucket, place.key)) => Err(s3_error!(AccessDenied)),
        Err(error) => Err(refusal(error)),
    }
}

/// The source of a copy. That a delete marker cannot be one S3 says in its own way.
pub(super) async fn find_source(
    gateway: &Gateway,
    access: &Access,
    place: Place<'_>,
) -> S3Result<(Bucket, ObjectVersion)> {
    // Its version is not in the query, where the facts of a request come from.
    let facts = place.version_id.map(version_fact).into_iter().collect();
    match find_object_with(gateway, access, place, GET_OBJECT, facts).await {
        Err(error) if *error.code() == S3ErrorCode::MethodNotAllowed => Err(s3_error!(
            InvalidRequest,
            "The source of a copy request may not specifically refer to a delete marker by version id."
        )),
        found => found,
    }
}

/// What conditions of policies can ask of a version that is named elsewhere than in the query.
pub(super) fn version_fact(version_id: &str) -> (String, String) {
    ("s3:VersionId".to_owned(), version_id.to_owned())
}

/// Who has an object's entity tag compared with one, learns of its content: `s3:GetObject` goes with it. See "How to perform
/// conditional deletes" and "How to prevent object overwrites with conditional writes" in the S3 user guide.
pub(super) async fn check_compares(
    gateway: &Gateway,
    access: &Access,
    place: Place<'_>,
    conditions: &Conditions,
) -> S3Result {
    let tags = [&conditions.if_match, &conditions.if_none_match];
    if !tags.into_iter().flatten().any(|tags| matches!(tags, ETagCondition::OneOf(_))) {
        return Ok(());
    }
    match find_object(gateway, access, place, GET_OBJECT).await {
        Err(error) if *error.code() == S3ErrorCode::AccessDenied => Err(error),
        // What else is wrong with it the operation says.
        _ => Ok(()),
    }
}

/// An upload belongs to the one who began it; the owner of the bucket may do with it as with all that is in the bucket.
pub(super) async fn check_upload(gateway: &Gateway, caller: UserId, path: UploadPath<'_>) -> S3Result {
    if caller == path.bucket.owner {
        return Ok(());
    }
    let page = gateway.objects.list_parts(path, 0, 0).await.map_err(s3_error)?;
    if page.upload.initiator == caller { Ok(()) } else { Err(s3_error!(AccessDenied)) }
}

/// An upload with a page of its parts, if the caller may do with it what it asks for. That there is none is told to those alone
/// who could have begun it, or may do as much with anybody's.
pub(super) async fn find_upload(
    gateway: &Gateway,
    access: &Access,
    (bucket, place): (&Bucket, Place<'_>),
    id: &str,
    (after, limit): (u16, u16),
) -> S3Result<(UploadId, PartPage)> {
    let of = |initiator| Resource::upload(place.bucket, bucket, place.key, initiator);
    let none = || {
        let began = access.may(PUT_OBJECT, &Resource::key(place.bucket, bucket, place.key));
        let knows = began || access.may(access.action(), &of(bucket.owner));
        if knows { s3_error!(NoSuchUpload) } else { s3_error!(AccessDenied) }
    };
    let upload = UploadId::parse(id).ok_or_else(none)?;
    match gateway.objects.list_parts(UploadPath { bucket, key: place.key, upload }, after, limit).await {
        Ok(page) => {
            access.check(access.action(), &of(page.upload.initiator))?;
            Ok((upload, page))
        }
        Err(ObjectError::NoSuchUpload) => Err(none()),
        Err(error) => Err(s3_error(error)),
    }
}

//! DeleteObjects.

use annulus_common::condition::{Conditions, ETagCondition};
use annulus_common::map::Bucket;
use annulus_common::notification::Means;
use annulus_common::protocol::metadata::{DELETE_KEYS_MAX, Deletion};
use futures::stream::{self, StreamExt};
use s3s::dto::{self, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ObjectIdentifier};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::delete_object::{bypasses, size};
use super::error::s3_error;
use super::find_object::{Place, check_compares, version_fact};
use super::listing::xml_text;
use super::version::asked;
use super::{Gateway, access, condition};
use crate::auth::action::DELETE_OBJECT;
use crate::auth::{Access, DeletedKey, Operation, Resource};
use crate::object::{DeleteObjects, Deleted};

/// How many of its keys a deletion judges at a time: those with an entity tag are looked for, each in its partition.
const PLANNED_AT_ONCE: usize = 16;

/// What is asked, of whom, by whom.
struct Asked<'a> {
    gateway: &'a Gateway,
    access: &'a Access,
    name: &'a str,
    bucket: &'a Bucket,
    bypass_governance: Option<bool>,
}

pub(super) async fn delete_objects(
    gateway: &Gateway,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let access = access(&req.extensions)?;
    let objects = req.input.delete.objects;
    if objects.is_empty() || objects.len() > DELETE_KEYS_MAX {
        return Err(s3_error!(MalformedXML));
    }
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let bypass_governance = req.input.bypass_governance_retention;
    let asked = Asked { gateway, access, name: &req.input.bucket, bucket: &bucket, bypass_governance };
    let plans: Vec<_> = objects.iter().map(|object| asked.plan(object)).collect();
    let plans: Vec<S3Result<Deletion>> = stream::iter(plans).buffered(PLANNED_AT_ONCE).collect().await;
    let deletions = plans.iter().filter_map(|plan| plan.as_ref().ok().cloned()).collect();
    let delete = DeleteObjects { bucket: &bucket, owner: access.user(), deletions };
    let telling = gateway.telling(&req.extensions, &bucket, Means::Put);
    let mut outcomes = telling.delete_many(delete).await.into_iter();
    let quiet = req.input.delete.quiet.unwrap_or(false);
    let (mut deleted, mut errors, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for (object, plan) in objects.iter().zip(plans) {
        let outcome = match plan {
            Ok(_) => outcomes.next().map_or(Err(s3_error!(InternalError)), |outcome| outcome.map_err(s3_error)),
            Err(error) => Err(error),
        };
        records.push(record(object, outcome.as_ref().err()));
        match outcome {
            Ok(_) if quiet => {}
            Ok(outcome) => deleted.push(dto_deleted(object, outcome)),
            Err(error) => errors.push(dto_error(object, &error)),
        }
    }
    if let Some(operation) = req.extensions.get::<Operation>() {
        operation.delete(records);
    }
    let output = DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), ..Default::default() };
    Ok(S3Response::new(output))
}

impl Asked<'_> {
    /// What is to be done with a key, which is judged for itself.
    async fn plan(&self, object: &ObjectIdentifier) -> S3Result<Deletion> {
        let key = Resource::key(self.name, self.bucket, &object.key).of_version(object.version_id.is_some());
        let facts = facts(object);
        if !self.access.may_with(DELETE_OBJECT, &key, facts.clone()) {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        let version = asked(object.version_id.as_deref())?;
        let conditions = conditions(object)?;
        match object.key.len() {
            0 => return Err(s3_error!(UserKeyMustBeSpecified)),
            1..=1024 => {}
            _ => return Err(s3_error!(KeyTooLongError)),
        }
        let place = Place { bucket: self.name, key: &object.key, version_id: object.version_id.as_deref() };
        check_compares(self.gateway, self.access, place, &conditions).await?;
        let bypass_governance =
            bypasses(self.access, (self.name, self.bucket, &object.key), self.bypass_governance, facts);
        Ok(Deletion { key: object.key.clone(), version, conditions, bypass_governance, sequence: None })
    }
}

/// What conditions of policies can ask of one object of a deletion: what a deletion of it alone says in its head.
fn facts(object: &ObjectIdentifier) -> Vec<(String, String)> {
    let etag = object.e_tag.as_ref().map(|etag| ("s3:if-match".to_owned(), etag.value().to_owned()));
    etag.into_iter().chain(object.version_id.as_deref().map(version_fact)).collect()
}

fn conditions(object: &ObjectIdentifier) -> S3Result<Conditions> {
    let if_match = object.e_tag.as_ref().map(|etag| match etag.value() {
        "*" => ETagCondition::Any,
        etag => ETagCondition::OneOf(vec![etag.to_owned()]),
    });
    Ok(Conditions {
        if_match,
        if_match_size: object.size.map(size).transpose()?,
        if_match_modified: object.last_modified_time.as_ref().map(condition::unix_seconds),
        ..Conditions::default()
    })
}

/// What the bucket's access log says of the key.
fn record(object: &ObjectIdentifier, error: Option<&S3Error>) -> DeletedKey {
    let error = error.map(|error| {
        let status = error.status_code().unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        (status.as_u16(), error.code().as_str().to_owned())
    });
    DeletedKey { key: object.key.clone(), version_id: object.version_id.clone(), error }
}

fn dto_deleted(object: &ObjectIdentifier, deleted: Deleted) -> DeletedObject {
    let (delete_marker, delete_marker_version_id) = match deleted {
        Deleted::Gone => (None, None),
        Deleted::MarkerGone => (Some(true), object.version_id.clone()),
        Deleted::Marked(marker) => (Some(true), Some(marker.to_string())),
    };
    DeletedObject {
        delete_marker,
        delete_marker_version_id,
        key: Some(xml_text(&object.key)),
        version_id: object.version_id.clone(),
    }
}

fn dto_error(object: &ObjectIdentifier, error: &S3Error) -> dto::Error {
    dto::Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(xml_text(&object.key)),
        message: error.message().map(str::to_owned),
        version_id: object.version_id.clone(),
    }
}

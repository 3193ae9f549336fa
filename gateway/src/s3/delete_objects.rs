//! DeleteObjects.

use annulus_common::condition::{Conditions, ETagCondition};
use annulus_common::map::Bucket;
use annulus_common::protocol::metadata::DELETE_KEYS_MAX;
use s3s::dto::{self, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ObjectIdentifier};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::delete_object::size;
use super::error::s3_error;
use super::listing::xml_text;
use super::version::{Asked, asked};
use super::{Gateway, access, condition};
use crate::auth::action::DELETE_OBJECT;
use crate::auth::{Access, Resource};

/// What will become of one of the keys.
enum Plan {
    /// Deleted, if its conditions hold.
    Delete(String, Conditions),
    /// A version that does not exist is as good as deleted.
    Gone,
    /// Refused.
    Refuse(S3Error),
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
    let may = |object: &ObjectIdentifier| may_delete(access, (&req.input.bucket, &bucket), object);
    let plans: Vec<Plan> = objects.iter().map(|object| plan(object, may(object))).collect();
    let keys = plans.iter().filter_map(|plan| match plan {
        Plan::Delete(key, conditions) => Some((key.clone(), conditions.clone())),
        Plan::Gone | Plan::Refuse(_) => None,
    });
    let mut outcomes = gateway.objects.delete_many(&bucket, keys.collect()).await.into_iter();
    let quiet = req.input.delete.quiet.unwrap_or(false);
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (object, plan) in objects.iter().zip(plans) {
        let outcome = match plan {
            Plan::Delete(..) => {
                outcomes.next().map_or(Err(s3_error!(InternalError)), |outcome| outcome.map_err(s3_error))
            }
            Plan::Gone => Ok(()),
            Plan::Refuse(error) => Err(error),
        };
        match outcome {
            Ok(()) if quiet => {}
            Ok(()) => deleted.push(dto_deleted(object)),
            Err(error) => errors.push(dto_error(object, &error)),
        }
    }
    let output = DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), ..Default::default() };
    Ok(S3Response::new(output))
}

/// Each key is judged for itself.
fn may_delete(access: &Access, (name, bucket): (&str, &Bucket), object: &ObjectIdentifier) -> bool {
    let key = Resource::key(name, bucket, &object.key).of_version(object.version_id.is_some());
    access.may(DELETE_OBJECT, &key)
}

fn plan(object: &ObjectIdentifier, permitted: bool) -> Plan {
    if !permitted {
        return Plan::Refuse(s3_error!(AccessDenied, "Access Denied"));
    }
    let conditions = match (asked(object.version_id.as_deref()), conditions(object)) {
        (Err(error), _) | (Ok(Asked::Current), Err(error)) => return Plan::Refuse(error),
        (Ok(Asked::Other), _) => return Plan::Gone,
        (Ok(Asked::Current), Ok(conditions)) => conditions,
    };
    match object.key.len() {
        0 => Plan::Refuse(s3_error!(UserKeyMustBeSpecified)),
        1..=1024 => Plan::Delete(object.key.clone(), conditions),
        _ => Plan::Refuse(s3_error!(KeyTooLongError)),
    }
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

fn dto_deleted(object: &ObjectIdentifier) -> DeletedObject {
    DeletedObject { key: Some(xml_text(&object.key)), version_id: object.version_id.clone(), ..Default::default() }
}

fn dto_error(object: &ObjectIdentifier, error: &S3Error) -> dto::Error {
    dto::Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(xml_text(&object.key)),
        message: error.message().map(str::to_owned),
        version_id: object.version_id.clone(),
    }
}

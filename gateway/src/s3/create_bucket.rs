//! CreateBucket.

use annulus_common::acl::BucketAcl;
use annulus_common::object::UserId;
use s3s::dto::{CreateBucketConfiguration, CreateBucketInput, CreateBucketOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::s3_error;
use super::names::is_bucket_name;
use super::{Gateway, caller};
use crate::object::ObjectError;

/// The region whose buckets have no location constraint.
pub(super) const CLASSIC_REGION: &str = "us-east-1";

pub(super) async fn create_bucket(
    gateway: &Gateway,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let owner = caller(&req.extensions)?;
    let name = req.input.bucket;
    if !is_bucket_name(&name) {
        return Err(s3_error!(InvalidBucketName));
    }
    check_configuration(req.input.create_bucket_configuration.as_ref(), &gateway.region)?;
    let acl = match &req.input.acl {
        Some(name) => BucketAcl::named(name.as_str()).ok_or_else(|| s3_error!(NotImplemented))?,
        None => BucketAcl::default(),
    };
    match gateway.objects.create_bucket(&name, owner, acl).await {
        Ok(_) => {}
        Err(ObjectError::BucketExists(bucket)) => {
            may_repeat(bucket.owner, owner, &gateway.region)?;
            if bucket.config.acl != acl {
                gateway.objects.set_bucket_acl(&name, &bucket, acl).await.map_err(s3_error)?;
            }
        }
        Err(error) => return Err(s3_error(error)),
    }
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{name}")), ..Default::default() }))
}

/// The classic region answers its owner as if the bucket had just been made, and resets its access control list; the others
/// do not.
fn may_repeat(owner: UserId, caller: UserId, region: &str) -> S3Result {
    match owner == caller {
        true if region == CLASSIC_REGION => Ok(()),
        true => Err(s3_error!(BucketAlreadyOwnedByYou)),
        false => Err(s3_error!(BucketAlreadyExists)),
    }
}

/// A bucket is made where it is asked for, and that must be here.
fn check_configuration(configuration: Option<&CreateBucketConfiguration>, region: &str) -> S3Result {
    let Some(configuration) = configuration else { return Ok(()) };
    if configuration.bucket.is_some() || configuration.location.is_some() || configuration.tags.is_some() {
        return Err(s3_error!(NotImplemented));
    }
    match configuration.location_constraint.as_ref().map(|constraint| constraint.as_str()) {
        None | Some("") => Ok(()),
        Some(constraint) if constraint == region => Ok(()),
        Some(constraint) => Err(s3_error!(
            IllegalLocationConstraintException,
            "The {constraint} location constraint is incompatible for the region specific endpoint this request was sent to."
        )),
    }
}

#[cfg(test)]
mod tests {
    use annulus_common::object::UserId;
    use s3s::dto::{BucketLocationConstraint, CreateBucketConfiguration};

    use super::{check_configuration, may_repeat};

    fn check(constraint: &str, region: &str) -> bool {
        let constraint = Some(BucketLocationConstraint::from(constraint.to_owned()));
        let configuration = CreateBucketConfiguration { location_constraint: constraint, ..Default::default() };
        check_configuration(Some(&configuration), region).is_ok()
    }

    #[test]
    fn a_bucket_is_made_here_or_not_at_all() {
        assert!(check("eu-west-1", "eu-west-1"));
        assert!(check("", "eu-west-1"));
        assert!(!check("eu-west-2", "eu-west-1"));
        assert!(check_configuration(None, "eu-west-1").is_ok());
    }

    #[test]
    fn making_it_again_is_its_owners_right_in_the_classic_region() {
        let (mine, other) = (UserId([1; 32]), UserId([2; 32]));
        let code = |owner, region| may_repeat(owner, mine, region).map_err(|error| error.code().as_str().to_owned());
        assert_eq!(code(mine, "us-east-1"), Ok(()));
        assert_eq!(code(mine, "eu-west-1"), Err("BucketAlreadyOwnedByYou".to_owned()));
        assert_eq!(code(other, "us-east-1"), Err("BucketAlreadyExists".to_owned()));
    }
}

//! CreateBucket.

use std::sync::Arc;

use annulus_common::map::{Bucket, BucketConfig};
use annulus_common::object::{ObjectLock, UserId, Versioning};
use annulus_common::ownership::ObjectOwnership;
use annulus_common::tags::{BUCKET_TAGS_MAX, Tags};
use s3s::dto::{CreateBucketConfiguration, CreateBucketInput, CreateBucketOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::{detailed, invalid_argument, s3_error};
use super::put_bucket_ownership_controls::check_without_acls;
use super::tags::of_xml;
use super::{Gateway, access, grants};
use crate::auth::action::TAG_RESOURCE;
use crate::auth::{Access, bucket_arn, facts_of_bucket_tags};
use crate::bucket_name::is_bucket_name;
use crate::object::ObjectError;

/// The region whose buckets have no location constraint.
pub(super) const CLASSIC_REGION: &str = "us-east-1";

pub(super) async fn create_bucket(
    gateway: &Gateway,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let access = access(&req.extensions)?;
    let (owner, name) = (access.user(), req.input.bucket);
    let constraint = location(req.input.create_bucket_configuration.as_ref());
    let tags = tags(req.input.create_bucket_configuration.as_ref())?;
    permit(access, &name, constraint, &tags)?;
    if !is_bucket_name(&name) {
        return Err(s3_error!(InvalidBucketName));
    }
    check_configuration(req.input.create_bucket_configuration.as_ref(), &gateway.region)?;
    let acl = grants::of_headers(&req.headers, &*gateway.accounts.map().await?)?.bucket_acl(owner)?;
    let ownership = req.input.object_ownership.as_ref().map(|name| ownership(name.as_str())).transpose()?;
    if ownership == Some(ObjectOwnership::BucketOwnerEnforced) {
        check_without_acls(&acl, owner)?;
    }
    // What can be locked must be kept.
    let (versioning, object_lock) = match req.input.object_lock_enabled_for_bucket {
        Some(true) => (Versioning::Enabled, Some(ObjectLock::default())),
        _ => (Versioning::default(), None),
    };
    let tags = (!tags.is_empty()).then(|| Arc::new(tags));
    let config = BucketConfig { acl, ownership, versioning, object_lock, tags, ..BucketConfig::default() };
    match gateway.objects.create_bucket(&name, owner, config.clone()).await {
        Ok(_) => {}
        Err(ObjectError::BucketExists(bucket)) => may_repeat(&bucket, owner, &config, &gateway.region)?,
        Err(error) => return Err(s3_error(error)),
    }
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{name}")), ..Default::default() }))
}

/// Refuses what the caller's account has not given it. Policies may have conditions on the place and the tags.
fn permit(access: &Access, name: &str, constraint: Option<&str>, tags: &Tags) -> S3Result {
    let (arn, tagged) = (bucket_arn(name), facts_of_bucket_tags(tags));
    if !tags.is_empty() {
        access.check_in_account(TAG_RESOURCE.name, &arn, tagged.clone())?;
    }
    let place = constraint.map(|place| ("s3:LocationConstraint".to_owned(), place.to_owned()));
    access.check_in_account(access.action().name, &arn, place.into_iter().chain(tagged).collect())
}

/// The classic region answers the owner who asks for the same bucket again as if it had just been made; the others do not.
/// One who asks for another access control list or ownership, or for locks, means to make a bucket, and would otherwise close
/// or open the one that is there.
fn may_repeat(bucket: &Bucket, caller: UserId, config: &BucketConfig, region: &str) -> S3Result {
    if bucket.owner != caller {
        Err(s3_error!(BucketAlreadyExists))
    } else if region != CLASSIC_REGION {
        Err(s3_error!(BucketAlreadyOwnedByYou))
    } else if !is_as_asked(&bucket.config, config) {
        Err(s3_error!(BucketAlreadyExists))
    } else {
        Ok(())
    }
}

fn is_as_asked(config: &BucketConfig, asked: &BucketConfig) -> bool {
    (&config.acl, config.ownership, config.object_lock.is_some())
        == (&asked.acl, asked.ownership, asked.object_lock.is_some())
        && (asked.tags.is_none() || config.tags == asked.tags)
}

/// `x-amz-object-ownership`.
fn ownership(name: &str) -> S3Result<ObjectOwnership> {
    ObjectOwnership::named(name).ok_or_else(|| {
        invalid_argument("x-amz-object-ownership", format!("Invalid x-amz-object-ownership header: {name}"))
    })
}

/// Where it is asked for, if the request says so.
fn location(configuration: Option<&CreateBucketConfiguration>) -> Option<&str> {
    let constraint = configuration?.location_constraint.as_ref()?.as_str();
    (!constraint.is_empty()).then_some(constraint)
}

/// The tags that it is to have.
fn tags(configuration: Option<&CreateBucketConfiguration>) -> S3Result<Tags> {
    let tags = configuration.and_then(|configuration| configuration.tags.clone());
    of_xml(tags.unwrap_or_default(), BUCKET_TAGS_MAX)
}

/// A bucket is made where it is asked for, and that must be here.
fn check_configuration(configuration: Option<&CreateBucketConfiguration>, region: &str) -> S3Result {
    let Some(configuration) = configuration else { return Ok(()) };
    if configuration.bucket.is_some() || configuration.location.is_some() {
        return Err(s3_error!(NotImplemented));
    }
    match location(Some(configuration)) {
        None => Ok(()),
        Some(constraint) if constraint == region => Ok(()),
        // Its endpoint was once that of all regions: it says whether there is such a one, the others only that it is not theirs.
        Some(constraint) if region == CLASSIC_REGION && !is_region(constraint) => {
            let invalid = s3_error!(InvalidLocationConstraint, "The specified location-constraint is not valid");
            Err(detailed(invalid, &[("LocationConstraint", constraint)]))
        }
        Some(constraint) => Err(s3_error!(
            IllegalLocationConstraintException,
            "The {constraint} location constraint is incompatible for the region specific endpoint this request was sent to."
        )),
    }
}

/// Whether regions have such names: `us-gov-east-1`, and the old one of eu-west-1.
fn is_region(name: &str) -> bool {
    let Some((place, number)) = name.rsplit_once('-') else { return name == "EU" };
    let words: Vec<&str> = place.split('-').collect();
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    words.len() >= 2
        && words.iter().all(is_word)
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use annulus_common::acl::BucketAcl;
    use annulus_common::ids::{BucketId, RequestId};
    use annulus_common::map::{Bucket, BucketConfig, BucketState};
    use annulus_common::object::UserId;
    use s3s::dto::{BucketLocationConstraint, CreateBucketConfiguration};

    use super::{check_configuration, may_repeat};

    fn bucket(owner: UserId) -> Bucket {
        let (id, request, config) = (BucketId(1), RequestId([0; 16]), BucketConfig::default());
        Bucket { id, owner, created_ms: 0, shards: 16, request, state: BucketState::Active, config }
    }

    fn refusal(constraint: &str, region: &str) -> Option<String> {
        let constraint = Some(BucketLocationConstraint::from(constraint.to_owned()));
        let configuration = CreateBucketConfiguration { location_constraint: constraint, ..Default::default() };
        check_configuration(Some(&configuration), region).err().map(|error| error.code().as_str().to_owned())
    }

    fn check(constraint: &str, region: &str) -> bool {
        refusal(constraint, region).is_none()
    }

    #[test]
    fn a_bucket_is_made_here_or_not_at_all() {
        assert!(check("eu-west-1", "eu-west-1"));
        assert!(check("", "eu-west-1"));
        assert!(!check("eu-west-2", "eu-west-1"));
        assert!(check_configuration(None, "eu-west-1").is_ok());
    }

    #[test]
    fn the_classic_region_knows_which_regions_there_are() {
        let (elsewhere, nowhere) = ("IllegalLocationConstraintException", "InvalidLocationConstraint");
        for (constraint, of_classic) in [
            ("eu-west-1", elsewhere),
            ("us-gov-east-1", elsewhere),
            ("EU", elsewhere),
            ("mars", nowhere),
            ("a-1", nowhere),
        ] {
            assert_eq!(refusal(constraint, "us-east-1").as_deref(), Some(of_classic), "{constraint}");
            assert_eq!(refusal(constraint, "us-west-2").as_deref(), Some(elsewhere), "{constraint}");
        }
    }

    #[test]
    fn making_it_again_is_its_owners_right_in_the_classic_region() {
        let (mine, other) = (UserId([1; 32]), UserId([2; 32]));
        let code = |owner, acl: BucketAcl, region| {
            let config = BucketConfig { acl, ..BucketConfig::default() };
            may_repeat(&bucket(owner), mine, &config, region).map_err(|error| error.code().as_str().to_owned())
        };
        let private = BucketAcl::Private;
        assert_eq!(code(mine, private.clone(), "us-east-1"), Ok(()));
        assert_eq!(code(mine, BucketAcl::PublicRead, "us-east-1"), Err("BucketAlreadyExists".to_owned()));
        assert_eq!(code(mine, private.clone(), "eu-west-1"), Err("BucketAlreadyOwnedByYou".to_owned()));
        assert_eq!(code(other, private, "us-east-1"), Err("BucketAlreadyExists".to_owned()));
    }
}

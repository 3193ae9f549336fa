//! GetBucketAcl, PutBucketAcl, GetObjectAcl, PutObjectAcl. A list is one of S3's canned ones, by name or by its grants; any
//! other is refused, because it would not be enforced.

use annulus_common::acl::{BucketAcl, Grant, Grantee, ObjectAcl, Permission};
use annulus_common::map::ClusterMap;
use annulus_common::object::{AttributeChange, UserId};
use s3s::dto::{
    self, AccessControlPolicy, GetBucketAclInput, GetBucketAclOutput, GetObjectAclInput, GetObjectAclOutput,
    PutBucketAclInput, PutBucketAclOutput, PutObjectAclInput, PutObjectAclOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::s3_error;
use super::find_object::{Place, find_object};
use super::{Gateway, access, owner};

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

/// As S3 says.
const GRANTS_MAX: usize = 100;

pub(super) async fn get_bucket_acl(
    gateway: &Gateway,
    req: S3Request<GetBucketAclInput>,
) -> S3Result<S3Response<GetBucketAclOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let map = gateway.accounts.map().await?;
    let grants = dto_grants(&map, &bucket.config.acl.grants(bucket.owner));
    Ok(S3Response::new(GetBucketAclOutput { grants: Some(grants), owner: Some(owner(&map, bucket.owner)) }))
}

pub(super) async fn put_bucket_acl(
    gateway: &Gateway,
    req: S3Request<PutBucketAclInput>,
) -> S3Result<S3Response<PutBucketAclOutput>> {
    let input = req.input;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let map = gateway.accounts.map().await?;
    let asked = asked(input.acl.as_ref().map(|name| name.as_str()), input.access_control_policy.as_ref())?;
    let acl = match asked {
        Asked::Named(name) => BucketAcl::named(name),
        Asked::Listed(policy) => BucketAcl::of_grants(&grants(&map, policy, bucket.owner)?, bucket.owner),
    };
    let acl = acl.ok_or_else(|| s3_error!(NotImplemented, "Only the grants of canned ACLs are implemented"))?;
    gateway.objects.set_bucket_acl(&input.bucket, &bucket, acl).await.map_err(s3_error)?;
    Ok(S3Response::new(PutBucketAclOutput::default()))
}

pub(super) async fn get_object_acl(
    gateway: &Gateway,
    req: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let (access, input) = (access(&req.extensions)?, &req.input);
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    let (bucket, found) = find_object(gateway, access, place, access.action()).await?;
    let map = gateway.accounts.map().await?;
    let grants = dto_grants(&map, &found.object.attributes.acl.grants(found.object.owner, bucket.owner));
    let owner = Some(owner(&map, found.object.owner));
    Ok(S3Response::new(GetObjectAclOutput { grants: Some(grants), owner, ..Default::default() }))
}

pub(super) async fn put_object_acl(
    gateway: &Gateway,
    req: S3Request<PutObjectAclInput>,
) -> S3Result<S3Response<PutObjectAclOutput>> {
    let input = req.input;
    let access = access(&req.extensions)?;
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    let (bucket, found) = find_object(gateway, access, place, access.action()).await?;
    let map = gateway.accounts.map().await?;
    let owner = found.object.owner;
    let asked = asked(input.acl.as_ref().map(|name| name.as_str()), input.access_control_policy.as_ref())?;
    let acl = match asked {
        Asked::Named(name) => ObjectAcl::named(name),
        Asked::Listed(policy) => ObjectAcl::of_grants(&grants(&map, policy, owner)?, owner, bucket.owner),
    };
    let acl = acl.ok_or_else(|| s3_error!(NotImplemented, "Only the grants of canned ACLs are implemented"))?;
    let change = AttributeChange::Acl(acl);
    gateway.objects.set_attributes(&bucket, &input.key, &found, change).await.map_err(s3_error)?;
    Ok(S3Response::new(PutObjectAclOutput::default()))
}

/// How a list is given.
enum Asked<'a> {
    Named(&'a str),
    Listed(&'a AccessControlPolicy),
}

fn asked<'a>(name: Option<&'a str>, policy: Option<&'a AccessControlPolicy>) -> S3Result<Asked<'a>> {
    match (name, policy) {
        (Some(name), None) => Ok(Asked::Named(name)),
        (None, Some(policy)) => Ok(Asked::Listed(policy)),
        (Some(_), Some(_)) => Err(s3_error!(UnexpectedContent)),
        (None, None) => Err(s3_error!(MissingSecurityHeader)),
    }
}

/// The grants that a client lists for what `owner` owns.
fn grants(map: &ClusterMap, policy: &AccessControlPolicy, owner: UserId) -> S3Result<Vec<Grant>> {
    // An owner cannot be changed, and one that is named wrongly means another bucket or object.
    let named = policy.owner.as_ref().and_then(|owner| owner.id.as_deref());
    if named.is_some_and(|id| id != owner.to_string()) {
        return Err(s3_error!(AccessDenied));
    }
    let listed = policy.grants.as_deref().unwrap_or_default();
    if listed.len() > GRANTS_MAX {
        return Err(s3_error!(MalformedACLError));
    }
    listed.iter().map(|listed| grant(map, listed)).collect()
}

fn grant(map: &ClusterMap, listed: &dto::Grant) -> S3Result<Grant> {
    let grantee = listed.grantee.as_ref().ok_or_else(|| s3_error!(MalformedACLError))?;
    let permission = match listed.permission.as_ref().map(|permission| permission.as_str()) {
        Some(dto::Permission::READ) => Permission::Read,
        Some(dto::Permission::WRITE) => Permission::Write,
        Some(dto::Permission::READ_ACP) => Permission::ReadAcl,
        Some(dto::Permission::WRITE_ACP) => Permission::WriteAcl,
        Some(dto::Permission::FULL_CONTROL) => Permission::FullControl,
        _ => return Err(s3_error!(MalformedACLError)),
    };
    Ok(Grant { grantee: self::grantee(map, grantee)?, permission })
}

fn grantee(map: &ClusterMap, grantee: &dto::Grantee) -> S3Result<Grantee> {
    if let Some(id) = &grantee.id {
        let known = UserId::parse(id).filter(|id| map.users.contains_key(id));
        return known.map(Grantee::User).ok_or_else(|| s3_error!(InvalidArgument, "Invalid id"));
    }
    if let Some(email) = &grantee.email_address {
        let known = map.users.iter().find(|(_, user)| user.email.as_ref() == Some(email));
        let unknown = || s3_error!(UnresolvableGrantByEmailAddress);
        return known.map(|(id, _)| Grantee::User(*id)).ok_or_else(unknown);
    }
    match grantee.uri.as_deref() {
        Some(ALL_USERS) => Ok(Grantee::AllUsers),
        Some(AUTHENTICATED_USERS) => Ok(Grantee::AuthenticatedUsers),
        Some(_) => Err(s3_error!(InvalidArgument, "Invalid group uri")),
        None => Err(s3_error!(MalformedACLError)),
    }
}

fn dto_grants(map: &ClusterMap, grants: &[Grant]) -> Vec<dto::Grant> {
    grants.iter().map(|grant| dto_grant(map, grant)).collect()
}

fn dto_grant(map: &ClusterMap, grant: &Grant) -> dto::Grant {
    let group = |uri: &str| dto::Grantee {
        display_name: None,
        email_address: None,
        id: None,
        type_: dto::Type::from_static(dto::Type::GROUP),
        uri: Some(uri.to_owned()),
    };
    let grantee = match grant.grantee {
        Grantee::AllUsers => group(ALL_USERS),
        Grantee::AuthenticatedUsers => group(AUTHENTICATED_USERS),
        Grantee::User(user) => {
            let dto::Owner { display_name, id } = owner(map, user);
            let type_ = dto::Type::from_static(dto::Type::CANONICAL_USER);
            dto::Grantee { display_name, email_address: None, id, type_, uri: None }
        }
    };
    let permission = match grant.permission {
        Permission::Read => dto::Permission::READ,
        Permission::Write => dto::Permission::WRITE,
        Permission::ReadAcl => dto::Permission::READ_ACP,
        Permission::WriteAcl => dto::Permission::WRITE_ACP,
        Permission::FullControl => dto::Permission::FULL_CONTROL,
    };
    dto::Grant { grantee: Some(grantee), permission: Some(dto::Permission::from_static(permission)) }
}

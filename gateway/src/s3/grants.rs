//! Access control lists on the wire: the canned names, the headers and the XML by which a request gives one, and the XML that
//! shows one. Who is meant by an e-mail address is settled when the list is set.

use annulus_common::acl::{BucketAcl, GRANTS_MAX, Grant, Grantee, ObjectAcl, Permission};
use annulus_common::map::{Bucket, ClusterMap};
use annulus_common::object::UserId;
use http::HeaderMap;
use s3s::dto::{self, AccessControlPolicy};
use s3s::{S3Result, s3_error};

use super::error::{detailed, invalid_argument, invalid_value};
use super::headers::text;
use super::owner;

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

/// Headers that grant.
const HEADERS: [(&str, Permission); 5] = [
    ("x-amz-grant-read", Permission::Read),
    ("x-amz-grant-write", Permission::Write),
    ("x-amz-grant-read-acp", Permission::ReadAcl),
    ("x-amz-grant-write-acp", Permission::WriteAcl),
    ("x-amz-grant-full-control", Permission::FullControl),
];

/// A canned list that S3 has and that would grant to a service that is not here.
const FOREIGN_ACL: &str = "aws-exec-read";

/// The list that a request gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// None.
    Nothing,
    /// The canned one of this name.
    Canned(String),
    /// These grants.
    Grants(Vec<Grant>),
}

/// The list that a request's headers give.
pub(super) fn of_headers(headers: &HeaderMap, map: &ClusterMap) -> S3Result<Asked> {
    let canned = text(headers, "x-amz-acl")?;
    let mut grants = Vec::new();
    for (name, permission) in HEADERS {
        for value in headers.get_all(name) {
            let unrecognized = || invalid_argument(name, "Argument format not recognized");
            let value = value.to_str().map_err(|_| unrecognized())?;
            for grantee in named_grantees(value) {
                let (kind, grantee) = grantee.ok_or_else(unrecognized)?;
                let grantee = header_grantee(map, kind, grantee)?.ok_or_else(unrecognized)?;
                grants.push(Grant { grantee, permission });
            }
        }
    }
    check_count(grants.len())?;
    match canned {
        Some(_) if !grants.is_empty() => {
            Err(s3_error!(InvalidRequest, "Specifying both Canned ACLs and Header Grants is not allowed"))
        }
        Some(name) => Ok(Asked::Canned(name)),
        None if grants.is_empty() => Ok(Asked::Nothing),
        None => Ok(Asked::Grants(grants)),
    }
}

/// The list that a request gives for what `owner` owns, in one of the three ways. It must give one.
pub(super) fn of_request(
    headers: &HeaderMap,
    policy: Option<&AccessControlPolicy>,
    map: &ClusterMap,
    owner: UserId,
) -> S3Result<Asked> {
    match (of_headers(headers, map)?, policy) {
        (Asked::Nothing, Some(policy)) => of_policy(policy, map, owner),
        (Asked::Nothing, None) => {
            let missing = s3_error!(MissingSecurityHeader, "Your request was missing a required header");
            Err(detailed(missing, &[("MissingHeaderName", "x-amz-acl")]))
        }
        (_, Some(_)) => Err(s3_error!(UnexpectedContent, "This request does not support content")),
        (asked, None) => Ok(asked),
    }
}

impl Asked {
    /// Whether it asks for nothing but that the bucket's owner has all rights: what may be said where lists mean nothing.
    pub(super) fn leaves_all_to(&self, bucket_owner: UserId) -> bool {
        match self {
            Self::Nothing => true,
            Self::Canned(name) => ObjectAcl::named(name) == Some(ObjectAcl::BucketOwnerFullControl),
            Self::Grants(grants) => {
                ObjectAcl::of_grants(grants.clone(), bucket_owner, bucket_owner) == ObjectAcl::Private
            }
        }
    }

    /// As the list of a bucket of `owner`.
    pub(super) fn bucket_acl(self, owner: UserId) -> S3Result<BucketAcl> {
        match self {
            Self::Nothing => Ok(BucketAcl::default()),
            Self::Canned(name) => BucketAcl::named(&name).ok_or_else(|| unknown(&name)),
            Self::Grants(grants) => Ok(BucketAcl::of_grants(grants, owner)),
        }
    }

    /// As the list of an object of `owner` in a bucket of `bucket_owner`.
    pub(super) fn object_acl(self, owner: UserId, bucket_owner: UserId) -> S3Result<ObjectAcl> {
        match self {
            Self::Nothing => Ok(ObjectAcl::default()),
            Self::Canned(name) => ObjectAcl::named(&name).ok_or_else(|| unknown(&name)),
            Self::Grants(grants) => Ok(ObjectAcl::of_grants(grants, owner, bucket_owner)),
        }
    }
}

/// Refuses a public list where the bucket's public access block rules those out.
pub(super) fn check_public(is_public: bool, bucket: &Bucket) -> S3Result {
    let blocked = bucket.config.public_access_block.is_some_and(|block| block.block_public_acls);
    if is_public && blocked { Err(s3_error!(AccessDenied)) } else { Ok(()) }
}

/// The answer where access control lists mean nothing.
pub(super) fn not_supported() -> s3s::S3Error {
    s3_error!(AccessControlListNotSupported, "The bucket does not allow ACLs")
}

/// Grants as an output has them.
pub(super) fn dto_grants(map: &ClusterMap, grants: &[Grant]) -> Vec<dto::Grant> {
    grants.iter().map(|grant| dto_grant(map, grant)).collect()
}

fn unknown(name: &str) -> s3s::S3Error {
    if name == FOREIGN_ACL {
        s3_error!(NotImplemented, "The canned ACL {FOREIGN_ACL} implies functionality that is not implemented")
    } else {
        invalid_argument("x-amz-acl", "Unknown canned ACL")
    }
}

fn check_count(grants: usize) -> S3Result {
    if grants > GRANTS_MAX { Err(s3_error!(MalformedACLError)) } else { Ok(()) }
}

/// The grantees of a header, `id="..", uri="..", emailAddress=".."`, each as its kind and name; nothing for what is neither.
fn named_grantees(value: &str) -> impl Iterator<Item = Option<(&str, &str)>> {
    value.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(|pair| {
        let (kind, name) = pair.split_once('=')?;
        Some((kind.trim(), name.trim().trim_matches('"')))
    })
}

/// Who that is; nothing where there are no grantees of that kind.
fn header_grantee(map: &ClusterMap, kind: &str, name: &str) -> S3Result<Option<Grantee>> {
    match kind.to_ascii_lowercase().as_str() {
        "id" => account(map, name).map(Some),
        "uri" => group(name).map(Some),
        "emailaddress" => account_of_email(map, name).map(Some),
        _ => Ok(None),
    }
}

fn of_policy(policy: &AccessControlPolicy, map: &ClusterMap, owner: UserId) -> S3Result<Asked> {
    let named = policy.owner.as_ref().and_then(|owner| owner.id.as_deref());
    let (Some(named), Some(listed)) = (named, &policy.grants) else { return Err(s3_error!(MalformedACLError)) };
    // An owner cannot be changed, and one that is named wrongly means another bucket or object.
    if named != owner.to_string() {
        return Err(s3_error!(AccessDenied));
    }
    check_count(listed.len())?;
    listed.iter().map(|listed| grant(map, listed)).collect::<S3Result<_>>().map(Asked::Grants)
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

/// The type says which of the elements counts, and that one must be there.
pub(super) fn grantee(map: &ClusterMap, grantee: &dto::Grantee) -> S3Result<Grantee> {
    match (grantee.type_.as_str(), &grantee.id, &grantee.email_address, &grantee.uri) {
        (dto::Type::CANONICAL_USER, Some(id), _, _) => account(map, id),
        (dto::Type::AMAZON_CUSTOMER_BY_EMAIL, _, Some(email), _) => account_of_email(map, email),
        (dto::Type::GROUP, _, _, Some(uri)) => group(uri),
        _ => Err(s3_error!(MalformedACLError)),
    }
}

fn account(map: &ClusterMap, id: &str) -> S3Result<Grantee> {
    let known = UserId::parse(id).filter(|id| map.users.contains_key(id));
    known.map(Grantee::User).ok_or_else(|| invalid_value("CanonicalUser/ID", id, "Invalid id"))
}

fn account_of_email(map: &ClusterMap, email: &str) -> S3Result<Grantee> {
    let is_meant = |known: &String| known.eq_ignore_ascii_case(email);
    let known = map.users.iter().find(|(_, user)| user.email.as_ref().is_some_and(is_meant));
    known.map(|(id, _)| Grantee::User(*id)).ok_or_else(|| s3_error!(UnresolvableGrantByEmailAddress))
}

fn group(uri: &str) -> S3Result<Grantee> {
    match uri {
        ALL_USERS => Ok(Grantee::AllUsers),
        AUTHENTICATED_USERS => Ok(Grantee::AuthenticatedUsers),
        LOG_DELIVERY => Ok(Grantee::LogDelivery),
        _ => Err(invalid_value("Group/URI", uri, "Invalid group uri")),
    }
}

pub(super) fn dto_grant(map: &ClusterMap, grant: &Grant) -> dto::Grant {
    let grantee = match grant.grantee {
        Grantee::AllUsers => dto_group(ALL_USERS),
        Grantee::AuthenticatedUsers => dto_group(AUTHENTICATED_USERS),
        Grantee::LogDelivery => dto_group(LOG_DELIVERY),
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

fn dto_group(uri: &str) -> dto::Grantee {
    dto::Grantee {
        display_name: None,
        email_address: None,
        id: None,
        type_: dto::Type::from_static(dto::Type::GROUP),
        uri: Some(uri.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::named_grantees;

    fn names(value: &str) -> Option<Vec<(&str, &str)>> {
        named_grantees(value).collect()
    }

    #[test]
    fn a_header_names_grantees_with_quotes_or_without() {
        let two = names("id=\"ab\", uri=\"http://x/y\"").expect("well-formed");
        assert_eq!(two, [("id", "ab"), ("uri", "http://x/y")]);
        assert_eq!(names("emailAddress=a@b.c").expect("well-formed"), [("emailAddress", "a@b.c")]);
        assert_eq!(names(" id = ab ,").expect("well-formed"), [("id", "ab")]);
        assert_eq!(names("id=ab;x").expect("well-formed"), [("id", "ab;x")], "an id that nobody has");
        assert_eq!(names("id=ab, ab"), None, "no kind");
    }
}

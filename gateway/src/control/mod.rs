//! The part of the S3 Control API that is about the tags of buckets, on the clients' port: ListTagsForResource, TagResource and
//! UntagResource. Terraform's AWS provider tags buckets by it (since 6.23), and names them by their ARN in the path. The tags are
//! those of GetBucketTagging; nothing else of the API is built.
//!
//! See "Amazon S3 Control" in the S3 API reference.

mod error;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::map::{Bucket, BucketChange, ClusterMap};
use annulus_common::tags::{self, BUCKET_TAGS_MAX, TagError, Tags};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

use self::error::ControlError;
use crate::auth::action::{Action, LIST_TAGS_FOR_RESOURCE, TAG_RESOURCE, UNTAG_RESOURCE};
use crate::auth::sigv4::{self, Scope, SignedPayload};
use crate::auth::{Access, Accounts, Caller, Resource, bucket_arn, facts_of_bucket_tags, session_token};
use crate::http::{Handler, HandlerBody, Unread, read_whole, respond};
use crate::object::Objects;
use crate::query;
use crate::request::RequestId;
use crate::routes::{CONTROL_ACCOUNT, CONTROL_PATH};

/// The largest request: as many tags as a bucket may have, of the longest names and values, escaped throughout.
const BODY_BYTES_MAX: usize = 256 << 10;

/// How long a request may take to come. Whose it is shows only when it is here.
const BODY_WAIT: Duration = Duration::from_secs(60);

/// The API.
pub struct ControlApi {
    objects: Arc<Objects>,
    accounts: Accounts,
    clock: SharedClock,
    region: String,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Wanted {
    List,
    Tag(Tags),
    Untag(Vec<String>),
}

#[async_trait::async_trait]
impl Handler for ControlApi {
    async fn handle(&self, request: Request<Incoming>) -> Response<HandlerBody> {
        let (head, body) = request.into_parts();
        let request_id = head.extensions.get::<RequestId>().map(|id| id.0.to_string()).unwrap_or_default();
        let answer = match read_whole(body, BODY_BYTES_MAX, BODY_WAIT).await {
            Ok(body) => self.answer(&head, &body).await,
            Err(why) => Err(why.into()),
        };
        let (status, xml) = match answer {
            Ok(Some(xml)) => (StatusCode::OK, xml),
            Ok(None) => (StatusCode::NO_CONTENT, String::new()),
            Err(error) => (error.status(), error.xml(&request_id)),
        };
        respond(status, "application/xml", xml)
    }
}

impl ControlApi {
    /// The API over the operations of a gateway.
    pub fn new(objects: Arc<Objects>, accounts: Accounts, clock: SharedClock, region: String) -> Self {
        Self { objects, accounts, clock, region }
    }

    async fn answer(&self, head: &Parts, body: &Bytes) -> Result<Option<String>, ControlError> {
        let map = self.accounts.map().await.map_err(|_| ControlError::Unavailable)?;
        let caller = self.caller(&map, head, body)?;
        let name = bucket_of(head.uri.path())?;
        let wanted = Wanted::of(head, body)?;
        let bucket = map.buckets.get(&name).ok_or(ControlError::NoSuchBucket)?;
        self.permit(caller, head, (&name, bucket), &wanted)?;
        let change = match wanted {
            Wanted::List => return Ok(Some(xml::listed(bucket.config.tags.as_deref()))),
            Wanted::Tag(set) => BucketChange::MergeTags { set: Arc::new(set), remove: Vec::new() },
            Wanted::Untag(remove) => BucketChange::MergeTags { set: Arc::default(), remove },
        };
        if !bucket.config.allows(&change) {
            return Err(TagError::TooMany(BUCKET_TAGS_MAX).into());
        }
        self.objects.configure_bucket(&name, bucket, change).await?;
        Ok(None)
    }

    /// Who signed the request, its body too.
    fn caller(&self, map: &ClusterMap, head: &Parts, body: &Bytes) -> Result<Caller, ControlError> {
        let (scope, now_ms) = (Scope { regions: &[&self.region], service: "s3" }, self.clock.now_ms());
        let secret_of = |access_key: &str| self.accounts.secret_of(map, access_key);
        let signed = sigv4::verify_in(scope, secret_of, now_ms, head, None)?;
        if let SignedPayload::Sha256(expected) = signed.payload
            && Sha256::digest(body).as_slice() != expected
        {
            return Err(sigv4::SignatureError::Mismatch.into());
        }
        let token = session_token(&head.uri, &head.headers);
        Ok(Caller::identify(map, self.accounts.sessions(), now_ms, &signed.access_key, token.as_deref())?)
    }

    /// Refuses what the caller may not do. The account that the request names must be the bucket's owner.
    fn permit(
        &self,
        caller: Caller,
        head: &Parts,
        (name, bucket): (&str, &Bucket),
        wanted: &Wanted,
    ) -> Result<(), ControlError> {
        let action = wanted.action();
        let context = caller.context(head, &self.region, self.clock.now_ms());
        let who = caller.arn();
        let access = Access::new(caller, action, context);
        let owner = bucket.owner.number().to_string();
        let is_owners =
            head.headers.get_all(CONTROL_ACCOUNT).iter().all(|account| account.as_bytes() == owner.as_bytes());
        if is_owners && access.may_with(action, &Resource::bucket(name, bucket), wanted.facts()) {
            return Ok(());
        }
        Err(ControlError::AccessDenied { caller: who, action: action.name, resource: bucket_arn(name) })
    }
}

impl Wanted {
    /// What the request means, or why it means nothing.
    fn of(head: &Parts, body: &Bytes) -> Result<Self, ControlError> {
        let names: Vec<_> = query::pairs(head.uri.query()).collect();
        let keys = || names.iter().filter(|(name, _)| name == "tagKeys").map(|(_, key)| key.clone().into_owned());
        let takes = |taken: &[&str]| names.iter().all(|(name, _)| taken.contains(&&**name));
        match head.method {
            Method::GET if takes(&[]) => Ok(Self::List),
            Method::POST if takes(&[]) => Ok(Self::Tag(tags::tags(xml::tags(body)?, BUCKET_TAGS_MAX)?)),
            Method::DELETE if takes(&["tagKeys"]) && keys().count() > 0 => Ok(Self::Untag(keys().collect())),
            Method::DELETE if takes(&["tagKeys"]) => Err(ControlError::Invalid("tagKeys says which tags to remove")),
            Method::GET | Method::POST | Method::DELETE => Err(ControlError::NotBuilt),
            _ => Err(ControlError::MethodNotAllowed),
        }
    }

    fn action(&self) -> Action {
        match self {
            Self::List => LIST_TAGS_FOR_RESOURCE,
            Self::Tag(_) => TAG_RESOURCE,
            Self::Untag(_) => UNTAG_RESOURCE,
        }
    }

    /// What conditions of policies can ask of it.
    fn facts(&self) -> Vec<(String, String)> {
        match self {
            Self::List => Vec::new(),
            Self::Tag(tags) => facts_of_bucket_tags(tags),
            Self::Untag(keys) => keys.iter().map(|key| ("aws:TagKeys".to_owned(), key.clone())).collect(),
        }
    }
}

/// The bucket whose tags a path is about: `/v20180820/tags/arn:aws:s3:::BUCKET`.
fn bucket_of(path: &str) -> Result<String, ControlError> {
    let resource = path.strip_prefix(CONTROL_PATH).and_then(|path| path.strip_prefix("tags/"));
    let arn = percent_decode_str(resource.ok_or(ControlError::NotBuilt)?).decode_utf8_lossy();
    let name = arn.strip_prefix("arn:aws:s3:::").filter(|name| !name.is_empty() && !name.contains('/'));
    // Those of access points, access grants and the like.
    name.map(str::to_owned).ok_or(ControlError::NotBuilt)
}

impl From<Unread> for ControlError {
    fn from(why: Unread) -> Self {
        Self::Invalid(match why {
            Unread::Broken => "A request is whole and has at most 256 KiB",
            Unread::Late => "A request comes within 60 s",
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::request::Parts;
    use http::{Method, Request};

    use super::error::ControlError;
    use super::{Wanted, bucket_of};

    fn head(method: Method, query: &str) -> Parts {
        Request::builder().method(method).uri(format!("/v20180820/tags/x{query}")).body(()).unwrap().into_parts().0
    }

    fn wanted(method: Method, query: &str) -> Result<Wanted, ControlError> {
        Wanted::of(&head(method, query), &Bytes::new())
    }

    #[test]
    fn buckets_alone_have_tags() {
        for path in ["/v20180820/tags/arn:aws:s3:::b-1", "/v20180820/tags/arn%3Aaws%3As3%3A%3A%3Ab-1"] {
            assert_eq!(bucket_of(path), Ok("b-1".to_owned()));
        }
        for path in [
            "/v20180820/tags/arn:aws:s3:::",
            "/v20180820/tags/arn:aws:s3:::b/key",
            "/v20180820/tags/arn:aws:s3:us-east-1:123456789012:accesspoint/p",
            "/v20180820/tags/b",
            "/v20180820/bucket/b/tagging",
        ] {
            assert_eq!(bucket_of(path), Err(ControlError::NotBuilt), "{path}");
        }
    }

    #[test]
    fn a_call_is_what_its_method_says_and_takes_nothing_else() {
        assert_eq!(wanted(Method::GET, ""), Ok(Wanted::List));
        let keys = ["a b".to_owned(), "c".to_owned()].to_vec();
        assert_eq!(wanted(Method::DELETE, "?tagKeys=a%20b&tagKeys=c"), Ok(Wanted::Untag(keys)));
        assert!(matches!(wanted(Method::DELETE, ""), Err(ControlError::Invalid(_))));
        assert_eq!(wanted(Method::GET, "?tagKeys=a"), Err(ControlError::NotBuilt));
        assert_eq!(wanted(Method::DELETE, "?tagKeys=a&more"), Err(ControlError::NotBuilt));
        assert_eq!(wanted(Method::PUT, ""), Err(ControlError::MethodNotAllowed));
        assert_eq!(wanted(Method::POST, ""), Err(ControlError::MalformedXml));
    }
}

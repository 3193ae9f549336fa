//! The IAM and STS APIs on the clients' port: users, groups, roles and policies of accounts, and sessions of them. A request is
//! a form with an `Action`, signed for the service `iam` or `sts`; an answer is XML. One file per group of actions; what the
//! actions mean is `annulus_common::iam`'s, who may call them `auth`'s.
//!
//! See the API references of IAM (2010-05-08) and STS (2011-06-15).

mod account;
mod attached;
mod call;
mod document;
mod error;
mod facts;
mod groups;
mod inline;
mod keys;
mod managed;
mod params;
pub(crate) mod random;
mod roles;
mod sts;
mod tags;
mod taken;
mod users;
mod versions;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::iam::Kind;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;

use self::call::Call;
use self::error::IamError;
use self::params::Params;
use self::xml::Xml;
use crate::auth::sigv4::{self, Scope};
use crate::auth::{Accounts, Caller, session_token};
use crate::client::ClusterClient;
use crate::http::{Handler, HandlerBody, Unread, read_whole, respond};
use crate::request::RequestId;

/// The largest request: the largest policy with its white space, percent-encoded throughout, and its names.
const BODY_BYTES_MAX: usize = 128 << 10;

/// How long a request may take to come. Whose it is shows only when it is here.
const BODY_WAIT: Duration = Duration::from_secs(60);

/// What clients sign for beside the region of the cluster: AWS's IAM is in one region for all, and some name none.
const OTHER_REGIONS: [&str; 2] = ["us-east-1", ""];

/// The APIs.
pub struct IamApi {
    client: Arc<ClusterClient>,
    accounts: Accounts,
    clock: SharedClock,
    region: String,
}

/// Which of the two APIs is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// Users, groups, roles and policies.
    Iam,
    /// Sessions.
    Sts,
}

/// What the action takes beside what all do; nothing if there is no such action. For those who list what is built.
pub fn parameters(service: Service, action: &str) -> Option<Vec<&'static str>> {
    taken::taken(service, action).map(|taken| taken.split_ascii_whitespace().collect())
}

#[async_trait::async_trait]
impl Handler for IamApi {
    async fn handle(&self, request: Request<Incoming>) -> Response<HandlerBody> {
        let (head, body) = request.into_parts();
        let request_id = head.extensions.get::<RequestId>().map(|id| id.0.to_string()).unwrap_or_default();
        let service = Service::of(&head.headers);
        let answer = match read_whole(body, BODY_BYTES_MAX, BODY_WAIT).await {
            Ok(body) => self.answer(service, &head, &body).await,
            Err(why) => Err(why.into()),
        };
        let (status, xml) = match answer {
            Ok((action, result)) => (StatusCode::OK, result.in_envelope(service.namespace(), &action, &request_id)),
            Err(error) => (error.status(), error.xml(service.namespace(), &request_id)),
        };
        respond(status, "text/xml", xml)
    }
}

impl IamApi {
    /// The APIs over the cluster map.
    pub fn new(client: Arc<ClusterClient>, accounts: Accounts, clock: SharedClock, region: String) -> Self {
        Self { client, accounts, clock, region }
    }

    async fn answer(&self, service: Service, head: &Parts, body: &Bytes) -> Result<(String, Xml), IamError> {
        if head.uri.query().is_some_and(|query| !query.is_empty()) {
            return Err(IamError::Validation("The parameters of a request stand in its body.".to_owned()));
        }
        let params = Params::parse(body)?;
        let map = self.accounts.map().await.map_err(|_| IamError::Unavailable)?;
        let scope = Scope { regions: &[&self.region, OTHER_REGIONS[0], OTHER_REGIONS[1]], service: service.name() };
        let now_ms = self.clock.now_ms();
        let secret_of = |access_key: &str| self.accounts.secret_of(&map, access_key);
        let signed = sigv4::verify_in(scope, secret_of, now_ms, head, Some(body))?;
        let token = session_token(&head.uri, &head.headers);
        let sessions = self.accounts.sessions();
        let caller = Caller::identify(&map, sessions, now_ms, &signed.access_key, token.as_deref())?;
        let action = params.required("Action")?.to_owned();
        taken::check(service, &action, &params)?;
        let context = caller.context(head, &self.region, now_ms);
        let call = Call::new(self, map, caller, context, params, now_ms);
        let result = match service {
            Service::Iam => call.iam(&action).await?,
            Service::Sts => call.sts(&action)?,
        };
        Ok((action, result))
    }
}

impl Call<'_> {
    /// Sessions of accounts and users may not change what they themselves may do: see "GetSessionToken" in the STS API
    /// reference.
    async fn iam(&self, action: &str) -> Result<Xml, IamError> {
        if self.has_session_of_own() {
            return Err(self.denied(&format!("iam:{action}"), "*"));
        }
        match action {
            _ if action.contains("AccessKey") => self.keys(action).await,
            _ if action.contains("PolicyVersion") => self.versions(action).await,
            _ if action.starts_with("Attach") || action.starts_with("Detach") || action.starts_with("ListAttached") => {
                self.attached(action).await
            }
            "ListUserPolicies" | "PutUserPolicy" | "GetUserPolicy" | "DeleteUserPolicy" => {
                self.inline(Kind::User, action).await
            }
            "ListGroupPolicies" | "PutGroupPolicy" | "GetGroupPolicy" | "DeleteGroupPolicy" => {
                self.inline(Kind::Group, action).await
            }
            "ListRolePolicies" | "PutRolePolicy" | "GetRolePolicy" | "DeleteRolePolicy" => {
                self.inline(Kind::Role, action).await
            }
            _ if action.starts_with("Tag") || action.starts_with("Untag") || action.ends_with("Tags") => {
                self.tags(action).await
            }
            "CreateUser" | "GetUser" | "ListUsers" | "UpdateUser" | "DeleteUser" => self.users(action).await,
            "CreatePolicy" | "GetPolicy" | "ListPolicies" | "DeletePolicy" | "ListEntitiesForPolicy" => {
                self.managed(action).await
            }
            _ if action.contains("Group") => self.groups(action).await,
            _ if action.contains("Role") => self.roles(action).await,
            _ => self.account(action),
        }
    }
}

impl Service {
    /// The one that the request is signed for. Without a signature to go by it is refused in any case.
    fn of(headers: &HeaderMap) -> Self {
        let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let scope = b"/sts/aws4_request";
        if authorization.windows(scope.len()).any(|window| window == scope) { Self::Sts } else { Self::Iam }
    }

    /// As it stands in the scope of signatures.
    fn name(self) -> &'static str {
        match self {
            Self::Iam => "iam",
            Self::Sts => "sts",
        }
    }

    /// The version of the API.
    fn version(self) -> &'static str {
        match self {
            Self::Iam => "2010-05-08",
            Self::Sts => "2011-06-15",
        }
    }

    /// There is no such action of this API.
    fn no_such_action(self, action: &str) -> IamError {
        IamError::InvalidAction(format!("{action} for version {}", self.version()))
    }

    fn namespace(self) -> &'static str {
        match self {
            Self::Iam => "https://iam.amazonaws.com/doc/2010-05-08/",
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
        }
    }
}

impl From<Unread> for IamError {
    fn from(why: Unread) -> Self {
        Self::Validation(match why {
            Unread::Broken => format!("A request is whole and has at most {BODY_BYTES_MAX} bytes"),
            Unread::Late => format!("A request comes within {} s", BODY_WAIT.as_secs()),
        })
    }
}

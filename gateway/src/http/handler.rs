//! The seam to what is served beside S3: `/upload`, and everything under `/-/`.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

/// What a body may fail with.
pub type BodyFailure = Box<dyn std::error::Error + Send + Sync>;

/// The body of a handler's reply.
pub type HandlerBody = UnsyncBoxBody<Bytes, BodyFailure>;

/// Serves requests that are not S3's.
///
/// The request carries its name and its peer in its extensions. What it answers gets the common headers and is
/// counted and logged like everything else.
#[async_trait::async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Answers; never fails, because the handler knows best how to say what went wrong.
    async fn handle(&self, request: Request<Incoming>) -> Response<HandlerBody>;
}

/// What a handler calls the error that it answers, for records: in the reply's extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorCode(pub &'static str);

/// A reply's body that is here already.
pub fn whole(bytes: impl Into<Bytes>) -> HandlerBody {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

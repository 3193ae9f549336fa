//! What goes with a request through all layers, in its extensions, and back with its reply: names, and marks of what one layer
//! knows and another needs. Nothing is decided here.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};

/// What a browser's form is called where requests are counted, and by whoever asks whether a put was a form.
pub(crate) const FORM: &str = "PostObject";

/// Names a request, in its reply and in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

/// Names the gateway, in its replies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HostId(pub(crate) HeaderValue);

/// Who is at the other end of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Put into a request's extensions where its host names the bucket, and its path does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NamedByHost;

/// Put into the extensions of a request that does not say how long its body is, nor that it comes in HTTP chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoLength;

/// A status that the reply gets instead of the one that s3s gives it: HeadObject of a range is 206.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StatusOverride(pub(crate) StatusCode);

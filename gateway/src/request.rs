//! What goes with a request through all layers, in its extensions, and back with its reply: names, and marks of what one layer
//! knows and another needs. Nothing is decided here.

use std::net::IpAddr;
use std::sync::Arc;

use annulus_common::website::Protocol;
use http::header::HOST;
use http::{Extensions, HeaderMap, HeaderValue, StatusCode};

/// What a browser's form is called where requests are counted, and by whoever asks whether a put was a form.
pub(crate) const FORM: &str = "PostObject";

/// Names a request, in its reply and in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

/// Names the gateway, in its replies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HostId(pub(crate) HeaderValue);

/// Who sent a request, and how: as proxies say that the operator trusts, and else as the connection shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Peer {
    /// One of IPv4 is written as such.
    pub(crate) ip: IpAddr,
    pub(crate) protocol: Protocol,
}

/// Put into a request's extensions where its host names the bucket, and its path does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NamedByHost;

/// Put into the extensions of a request that does not say how long its body is, nor that it comes in HTTP chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoLength;

/// A status that the reply gets instead of the one that s3s gives it: HeadObject of a range is 206.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StatusOverride(pub(crate) StatusCode);

/// Where a client sent its request, to write addresses with: `https://s3.example.org`. Nothing if it named no host.
pub(crate) fn origin(headers: &HeaderMap, extensions: &Extensions) -> Option<String> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let protocol = extensions.get::<Peer>().map_or(Protocol::Http, |peer| peer.protocol);
    Some(format!("{}://{host}", protocol.name()))
}

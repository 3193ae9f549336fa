//! A request as the cause of events.

use annulus_common::notification::{Cause, Means};
use http::Extensions;

use crate::auth::{ANONYMOUS, Access};
use crate::request::{HostId, Peer, RequestId};

/// What events say of the request that has these extensions. One without an [`Access`] is nobody's.
pub(crate) fn cause_of(request: &Extensions, means: Means) -> Cause {
    let peer = request.get::<Peer>().map(|peer| peer.ip.to_string());
    let host_id = request.get::<HostId>().and_then(|id| id.0.to_str().ok()).map(str::to_owned);
    Cause {
        means,
        principal: request.get::<Access>().map_or_else(|| ANONYMOUS.to_owned(), Access::principal_id),
        source: peer.unwrap_or_default(),
        request_id: request.get::<RequestId>().map(|id| id.0.to_string()).unwrap_or_default(),
        host_id: host_id.unwrap_or_default(),
    }
}

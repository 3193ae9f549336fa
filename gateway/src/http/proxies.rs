//! Who sent a request that came by way of proxies: the one place that reads what they say of it. Only those are believed whom
//! the operator named, for anybody can send the same headers.

use std::net::{IpAddr, SocketAddr};

use annulus_common::network::Network;
use annulus_common::website::Protocol;
use http::HeaderMap;

use crate::request::Peer;

/// Each proxy adds at the end whom it was asked by.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// How it was asked.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Proxies that are believed.
#[derive(Clone, Debug)]
pub(super) struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    pub(super) fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Who sent a request with these headers that came over a connection from there. Connections themselves are plain.
    pub(super) fn peer(&self, connection: SocketAddr, headers: &HeaderMap) -> Peer {
        let ip = connection.ip().to_canonical();
        if self.has(ip) {
            Peer { ip: self.client(ip, headers), protocol: protocol(headers) }
        } else {
            Peer { ip, protocol: Protocol::Http }
        }
    }

    /// The last address that is not one of theirs: whatever stands before it is anybody's word. Where one of them could not say
    /// an address, it counts itself.
    fn client(&self, proxy: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let items = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        let mut client = proxy;
        for address in items.map_while(|item| address(item.trim())) {
            client = address.to_canonical();
            if !self.has(client) {
                break;
            }
        }
        client
    }

    fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// An address as proxies write it, some with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// What the proxy said that is next to us.
fn protocol(headers: &HeaderMap) -> Protocol {
    let last = headers.get_all(FORWARDED_PROTO).iter().next_back().and_then(|line| line.to_str().ok());
    let is_https = |last: &str| last.rsplit(',').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("https"));
    if last.is_some_and(is_https) { Protocol::Https } else { Protocol::Http }
}

#[cfg(test)]
mod tests {
    use annulus_common::network::Network;
    use annulus_common::website::Protocol;
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::TrustedProxies;

    fn peer(connection: &str, headers: &[(&'static str, &'static str)]) -> (String, Protocol) {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| Network::parse(network).expect("a network"));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let peer = TrustedProxies::new(networks.into()).peer(connection.parse().expect("an address"), &map);
        (peer.ip.to_string(), peer.protocol)
    }

    const FOR: &str = "x-forwarded-for";
    const PROTO: &str = "x-forwarded-proto";

    #[test]
    fn nobody_is_believed_who_was_not_named() {
        let told = [(FOR, "1.2.3.4"), (PROTO, "https")];
        assert_eq!(peer("192.0.2.1:5", &told), ("192.0.2.1".to_owned(), Protocol::Http));
        assert_eq!(peer("[::ffff:192.0.2.1]:5", &told), ("192.0.2.1".to_owned(), Protocol::Http));
        assert_eq!(peer("10.1.1.1:5", &told), ("1.2.3.4".to_owned(), Protocol::Https));
        assert_eq!(peer("[::ffff:10.1.1.1]:5", &told), ("1.2.3.4".to_owned(), Protocol::Https));
    }

    #[test]
    fn the_client_is_the_last_who_is_no_proxy() {
        for (forwarded, client) in [
            (vec![], "10.1.1.1"),
            (vec!["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            (vec!["6.6.6.6", "1.2.3.4,10.2.2.2", "fd00::7"], "1.2.3.4"),
            (vec!["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            (vec!["6.6.6.6, unknown, 10.2.2.2"], "10.2.2.2"),
            (vec!["6.6.6.6, "], "10.1.1.1"),
            (vec!["1.2.3.4:567"], "1.2.3.4"),
            (vec!["[2001:db8::1]:567"], "2001:db8::1"),
            (vec!["[2001:db8::1]"], "2001:db8::1"),
            (vec!["2001:db8::1"], "2001:db8::1"),
            (vec!["::ffff:1.2.3.4"], "1.2.3.4"),
        ] {
            let headers: Vec<_> = forwarded.iter().map(|value| (FOR, *value)).collect();
            assert_eq!(peer("10.1.1.1:5", &headers).0, client, "{forwarded:?}");
        }
    }

    #[test]
    fn the_protocol_is_the_last_that_was_said() {
        for (told, protocol) in [
            (vec![], Protocol::Http),
            (vec!["https"], Protocol::Https),
            (vec!["HTTPS"], Protocol::Https),
            (vec!["https, http"], Protocol::Http),
            (vec!["http", "https"], Protocol::Https),
            (vec!["wss"], Protocol::Http),
        ] {
            let headers: Vec<_> = told.iter().map(|value| (PROTO, *value)).collect();
            assert_eq!(peer("10.1.1.1:5", &headers).1, protocol, "{told:?}");
        }
    }
}

//! Who may have how many of the gateway's connections. A client that holds them all, and be it idly, would shut out everybody else.
//!
//! An address may have as many as make [`TIMES_FREE`] times those that are free. So the bound of each follows from how many there are of
//! those who want many, and nobody has to be told who is a proxy: alone, one may have seven eighths of all, and two have seven
//! fifteenths each. As others come, who has more gives some back: connections of his end with the request that they serve. Of addresses
//! alone is this true: who has thousands of them can take everything.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use annulus_common::telemetry::Metrics;
use parking_lot::Mutex;

/// How many times as many as are free one client may have.
const TIMES_FREE: usize = 7;

/// The bits of an IPv6 address that do not say whose it is: a provider gives each customer a network of this size, or a larger one.
const IPV6_HOST_BITS: u32 = 64;

/// The connections of a gateway.
pub(super) struct Connections {
    max: usize,
    table: Mutex<Table>,
    /// Whether so few are free that somebody may have too many: all that requests look at otherwise.
    is_crowded: AtomicBool,
    metrics: Arc<Metrics>,
}

struct Table {
    free: usize,
    held: HashMap<Client, usize>,
}

/// Whoever is behind an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Client(IpAddr);

/// A connection's place among them, until it is dropped.
pub(super) struct Seat {
    connections: Arc<Connections>,
    client: Client,
}

impl Connections {
    pub(super) fn new(max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let table = Mutex::new(Table { free: max, held: HashMap::new() });
        Arc::new(Self { max, table, is_crowded: AtomicBool::new(false), metrics })
    }

    /// A place for one more connection of that address, if it may have one now. The last one is for who has none.
    pub(super) fn seat(self: &Arc<Self>, peer: SocketAddr) -> Option<Seat> {
        let client = Client::of(peer.ip());
        let mut table = self.table.lock();
        let free = table.free.checked_sub(1)?;
        let held = table.held(client) + 1;
        if held > 1 && held > TIMES_FREE * free {
            return None;
        }
        self.update(&mut table, client, held, free);
        self.metrics.connections.served.inc();
        Some(Seat { connections: Arc::clone(self), client })
    }

    fn update(&self, table: &mut Table, client: Client, held: usize, free: usize) {
        match held {
            0 => table.held.remove(&client),
            held => table.held.insert(client, held),
        };
        table.free = free;
        // With more free than this, nobody can hold too many of the others.
        self.is_crowded.store(free * (TIMES_FREE + 1) < self.max, Ordering::Relaxed);
    }
}

impl Table {
    fn held(&self, client: Client) -> usize {
        self.held.get(&client).copied().unwrap_or_default()
    }
}

impl Seat {
    /// Whether the client has more connections than it may have by now.
    pub(super) fn is_one_too_many(&self) -> bool {
        if !self.connections.is_crowded.load(Ordering::Relaxed) {
            return false;
        }
        let table = self.connections.table.lock();
        table.held(self.client) > TIMES_FREE * table.free
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.connections.table.lock();
        let (held, free) = (table.held(self.client).saturating_sub(1), table.free + 1);
        self.connections.update(&mut table, self.client, held, free);
        self.connections.metrics.connections.served.dec();
    }
}

impl Client {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> IPV6_HOST_BITS << IPV6_HOST_BITS).into(),
            address => address,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use annulus_common::telemetry::Metrics;

    use super::{Connections, Seat};

    fn peer(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().expect("an address"), 1)
    }

    /// All that an address gets.
    fn fill(connections: &Arc<Connections>, address: &str) -> Vec<Seat> {
        std::iter::from_fn(|| connections.seat(peer(address))).collect()
    }

    #[test]
    fn one_alone_has_seven_eighths() {
        let connections = Connections::new(4_096, Metrics::new());
        let proxy = fill(&connections, "10.0.0.1");
        assert_eq!(proxy.len(), 3_584);
        assert_eq!(connections.metrics.connections.served.get(), 3_584);
        drop(proxy);
        assert_eq!(fill(&connections, "10.0.0.2").len(), 3_584, "what was held is free again");
        assert!(connections.table.lock().held.is_empty());
    }

    #[test]
    fn who_has_more_than_others_gives_back() {
        let connections = Connections::new(4_096, Metrics::new());
        let clients = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
        let mut seats = clients.map(|client| fill(&connections, client));
        assert!(seats[0].len() > 7 * seats[1].len() && !seats[2].is_empty(), "who comes later finds some");
        assert!(seats[0][0].is_one_too_many() && !seats[2][0].is_one_too_many());
        for _ in 0..100 {
            for (client, seats) in clients.iter().zip(&mut seats) {
                while seats.last().is_some_and(Seat::is_one_too_many) {
                    seats.pop();
                }
                seats.extend(fill(&connections, client));
            }
        }
        // Seven twenty-seconds each.
        for seats in &seats {
            assert!((1_300..1_310).contains(&seats.len()), "{}", seats.len());
        }
        assert!(connections.seat(peer("10.0.0.4")).is_some());
    }

    #[test]
    fn nobody_has_too_many_while_many_are_free() {
        let connections = Connections::new(4_096, Metrics::new());
        let mut seats = fill(&connections, "10.0.0.1");
        assert!(!seats[0].is_one_too_many());
        let other = connections.seat(peer("10.0.0.2")).expect("some are free");
        assert!(seats[0].is_one_too_many() && !other.is_one_too_many());
        seats.truncate(3_577);
        assert!(!seats[0].is_one_too_many());
    }

    #[test]
    fn a_few_places_are_shared_too() {
        let connections = Connections::new(4, Metrics::new());
        let all: Vec<Seat> = fill(&connections, "10.0.0.1");
        assert_eq!(all.len(), 4 - 1);
        let last = connections.seat(peer("10.0.0.2")).expect("one is free");
        assert!(connections.seat(peer("10.0.0.3")).is_none());
        drop(last);
        assert!(connections.seat(peer("10.0.0.3")).is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let connections = Connections::new(16, Metrics::new());
        let all = fill(&connections, "2001:db8:1:2::1");
        assert_eq!(all.len(), 14);
        assert!(connections.seat(peer("2001:db8:1:2:ffff::2")).is_none());
        let other = connections.seat(peer("2001:db8:1:3::1")).expect("it is another one's");
        let mapped = fill(&connections, "::ffff:10.0.0.1");
        assert!(mapped.len() == 1 && connections.seat(peer("::ffff:10.0.0.2")).is_none(), "none is free");
        drop(mapped);
        assert!(connections.seat(peer("10.0.0.2")).is_some());
        drop(other);
    }
}

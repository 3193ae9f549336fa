//! What a value of a setting looks like, and how it is read: sizes, durations, addresses, secrets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::network::Network;

/// The shape of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text that is not empty.
    Text,
    /// A TCP port.
    Port,
    /// A number from the first to the second.
    Count(u32, u32),
    /// `true` or `false`.
    Bool,
    /// A number of bytes.
    Bytes,
    /// A duration in seconds, or with a unit.
    Seconds,
    /// An IP address.
    Ip,
    /// An IP address and a port.
    Address,
    /// A host name or IP address.
    Host,
    /// Hosts with ports, separated by commas.
    HostPorts,
    /// Several of [`Kind::Host`], separated by commas.
    Hosts,
    /// Ranges of IP addresses, separated by commas.
    Networks,
    /// Names with URLs, separated by commas.
    Webhooks,
    /// A path.
    Path,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A text that is never shown.
    Secret,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Text => f.write_str("text"),
            Kind::Port => f.write_str("port"),
            Kind::Count(least, most) => write!(f, "{least} to {most}"),
            Kind::Bool => f.write_str("true or false"),
            Kind::Bytes => f.write_str("size"),
            Kind::Seconds => f.write_str("seconds"),
            Kind::Ip => f.write_str("IP address"),
            Kind::Address => f.write_str("ip:port"),
            Kind::Host => f.write_str("host"),
            Kind::HostPorts => f.write_str("host:port, ..."),
            Kind::Hosts => f.write_str("host name, ..."),
            Kind::Networks => f.write_str("IP address or range, ..."),
            Kind::Webhooks => f.write_str("name=URL, ..."),
            Kind::Path => f.write_str("path"),
            Kind::Choice(words) => f.write_str(&words.join(" or ")),
            Kind::Secret => f.write_str("secret"),
        }
    }
}

/// A value that is never shown: it prints as `***`.
#[derive(Clone)]
pub struct Secret(String);

/// Where a process is reached: a host name or address, and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostPort {
    /// A host name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Secret {
    /// Keeps `value` from being shown.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one who proves or checks it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `offered` is the secret, in a time that does not depend on how much of it is right.
    pub fn matches(&self, offered: &str) -> bool {
        self.0.as_bytes().ct_eq(offered.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for Secret {}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("`{text}` is not `host:port`");
        let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(ipv6) => ipv6.parse::<std::net::Ipv6Addr>().map(|ip| ip.to_string()).map_err(|_| wanted())?,
            None if host.contains(':') => return Err(format!("`{text}`: write an IPv6 address in brackets")),
            None => parse_host(host)?,
        };
        match parse_port(port)? {
            0 => Err(format!("`{text}` has port 0, which nobody can reach")),
            port => Ok(Self { host, port }),
        }
    }
}

pub(super) fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("`{text}` is not a port, 0 to 65535"))
}

pub(super) fn parse_count(text: &str, least: u32, most: u32) -> Result<u32, String> {
    match text.parse() {
        Ok(count) if (least..=most).contains(&count) => Ok(count),
        _ => Err(format!("`{text}` is not a number from {least} to {most}")),
    }
}

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("`{text}` is neither `true` nor `false`")),
    }
}

pub(super) fn parse_ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an IP address"))
}

pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not `ip:port`"))
}

/// A host name as RFC 1123 has them (and `_`, which container networks use), or an IP address.
pub(super) fn parse_host(text: &str) -> Result<String, String> {
    let labels = || {
        text.split('.').all(|label| {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len())
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
    };
    if text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && labels()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("`{text}` is not a host name or an IP address"))
    }
}

pub(super) fn parse_hosts(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse_host).collect()
}

pub(super) fn parse_host_ports(text: &str) -> Result<Vec<HostPort>, String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::parse).collect()
}

pub(super) fn parse_networks(text: &str) -> Result<Vec<Network>, String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let network = |item| {
        Network::parse(item).ok_or_else(|| format!("`{item}` is neither an IP address nor a range like `10.0.0.0/8`"))
    };
    items.map(network).collect()
}

pub(super) fn parse_choice(text: &str, words: &[&str]) -> Result<(), String> {
    if words.contains(&text) { Ok(()) } else { Err(format!("`{text}` is none of {}", words.join(", "))) }
}

/// A size as people write it: `1048576`, `64MiB`, `1.5 TB`. KB, MB, ... are decimal, KiB, MiB, ... binary.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "pb" => 1_000_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "pib" => 1 << 50,
        _ => {
            return Err(format!(
                "`{text}` is not a size: `{unit}` is none of B, KB, MB, GB, TB, PB, KiB, MiB, GiB, TiB, PiB"
            ));
        }
    };
    scale(number, factor).ok_or_else(|| format!("`{text}` is not a size, such as `500GiB`"))
}

/// A duration as people write it: `30` (seconds), `250ms`, `15m`, `2h`, `1d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let factor_ms = match unit {
        "" | "s" => 1_000,
        "ms" => 1,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("`{text}` is not a duration: `{unit}` is none of ms, s, m, h, d")),
    };
    let ms = scale(number, factor_ms).ok_or_else(|| format!("`{text}` is not a duration, such as `30` or `15m`"))?;
    Ok(Duration::from_millis(ms))
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|ch: char| !ch.is_ascii_digit() && ch != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// `number * factor` exactly, where the number may have decimals; what is left of a unit is cut off.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    // More decimals than this would be less than a byte of a pebibyte.
    if whole.is_empty() || decimals.is_empty() || decimals.len() > 15 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let part = u128::from(decimals.parse::<u64>().ok()?) * u128::from(factor) / 10_u128.pow(decimals.len() as u32);
    whole.checked_add(u64::try_from(part).ok()?)
}

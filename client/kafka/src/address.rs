//! A host and a port, as somebody says them and as others are told.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A host by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl HostPort {
    /// `HOST:PORT`, an IPv6 address in brackets.
    ///
    /// # Errors
    /// What is needed instead, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let needed = || "HOST:PORT is needed".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(needed)?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = port.parse().map_err(|_| needed())?;
        if host.is_empty() || port == 0 {
            return Err(needed());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// Where a listener listens; an address that stands for all of them is one that nobody can connect to.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V6(ip) if ip.is_unspecified() => "::1".to_owned(),
            ip => ip.to_string(),
        };
        Self {
            host,
            port: address.port(),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

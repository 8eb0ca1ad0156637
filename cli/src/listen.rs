//! Taking the ports.
//!
//! Owns: the wording of what is wrong when a port cannot be had.
//! Does not own: what is served there.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// An address to listen on and the flag that said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) flag: &'static str,
    pub(crate) address: SocketAddr,
}

impl Listen {
    /// Takes the port; 0 takes a free one.
    pub(crate) async fn bind(self) -> anyhow::Result<TcpListener> {
        let Self { flag, address } = self;
        TcpListener::bind(address).await.map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::AddrInUse => "another process listens there; stop it or choose another port".to_owned(),
                ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
                ErrorKind::PermissionDenied => "not permitted; choose a port above 1023".to_owned(),
                _ => error.to_string(),
            };
            anyhow::anyhow!("cannot listen on {flag} {address}: {reason}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_flag() {
        let first = Listen {
            flag: "--kafka",
            address: "127.0.0.1:0".parse().unwrap(),
        }
        .bind()
        .await
        .unwrap();
        let address = first.local_addr().unwrap();
        let refused = Listen {
            flag: "--http",
            address,
        }
        .bind()
        .await
        .expect_err("taken")
        .to_string();
        assert_eq!(
            refused,
            format!("cannot listen on --http {address}: another process listens there; stop it or choose another port")
        );
    }
}

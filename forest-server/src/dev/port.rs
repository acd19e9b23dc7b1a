//! Ports: the usual one if it is free, else any; one that the user chose, or none.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use tokio::net::TcpListener;

/// What listens, and where.
pub(super) struct Port {
    pub(super) listener: TcpListener,
    pub(super) place: Place,
}

/// Where something listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// The usual port, if somebody else has it.
    pub(super) taken: Option<u16>,
}

impl Place {
    pub(super) fn url(self) -> String {
        format!("http://{}", self.address)
    }
}

impl Port {
    /// `option` is named when `chosen` cannot be had.
    pub(super) async fn open(chosen: Option<SocketAddr>, usual: u16, option: &str) -> anyhow::Result<Self> {
        let wanted = chosen.unwrap_or((Ipv4Addr::LOCALHOST, usual).into());
        let (listener, taken) = match TcpListener::bind(wanted).await {
            Err(error) if chosen.is_none() && error.kind() == std::io::ErrorKind::AddrInUse => {
                (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await, Some(usual))
            }
            bound => (bound, None),
        };
        let listener = listener.with_context(|| format!("{option}: cannot listen on {wanted}"))?;
        Ok(Self { place: Place { address: listener.local_addr()?, taken }, listener })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_usual_port_is_replaced_and_a_taken_chosen_one_is_an_error() {
        let any = Some((Ipv4Addr::LOCALHOST, 0).into());
        let first = Port::open(any, 1, "--listen").await.expect("a free port");
        let place = first.place;
        assert_eq!(place.taken, None);
        let second = Port::open(None, place.address.port(), "--listen").await.expect("another port");
        assert_eq!(second.place.taken, Some(place.address.port()));
        assert_ne!(second.place.address, place.address);
        let refused = Port::open(Some(place.address), 1, "--listen").await.map(|_| ()).expect_err("taken");
        assert!(format!("{refused:#}").starts_with("--listen: cannot listen on 127.0.0.1"), "{refused:#}");
    }
}

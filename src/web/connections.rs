//! How many connections one address may have open, so that no single client takes them all.
//!
//! A connection past the limit is closed as soon as it is accepted: whoever opens hundreds at once reads
//! no answers. Trusted proxies are exempt, since they bring everybody's requests.

use std::any::Any;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use socket2::SockRef;

use super::peer::TrustedProxies;

/// The connections that are open on this node, by address.
#[derive(Debug)]
pub struct Connections {
    per_address_max: u32,
    proxies: TrustedProxies,
    open: Mutex<HashMap<IpAddr, u32>>,
}

impl Connections {
    /// Nothing is open yet; 0 means no limit.
    pub fn new(per_address_max: u32, proxies: TrustedProxies) -> Arc<Self> {
        Arc::new(Self {
            per_address_max,
            proxies,
            open: Mutex::default(),
        })
    }

    /// Counts a connection that actix-web has accepted, or closes it.
    pub fn accept(self: &Arc<Self>, connection: &dyn Any, extensions: &mut Extensions) {
        let Some(stream) = connection.downcast_ref::<TcpStream>() else {
            return;
        };
        let Ok(peer) = stream.peer_addr() else {
            return;
        };
        let address = peer.ip().to_canonical();
        if self.per_address_max == 0 || self.proxies.contains(address) {
            return;
        }
        match self.open(address) {
            // It lasts as long as the connection and the requests on it.
            Some(counted) => drop(extensions.insert(counted)),
            None => close(stream),
        }
    }

    fn open(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let mut open = self.lock();
        let count = open.entry(address).or_default();
        if *count >= self.per_address_max {
            return None;
        }
        *count += 1;
        Some(Counted {
            connections: Arc::clone(self),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close(stream: &TcpStream) {
    tracing::debug!("an address has too many connections; one is closed");
    if let Err(error) = SockRef::from(stream).shutdown(std::net::Shutdown::Both) {
        tracing::debug!(%error, "the client was faster");
    }
}

/// An open connection; dropping it counts it out.
#[derive(Debug)]
struct Counted {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_apart_and_forgotten_when_they_have_left() {
        let connections = Connections::new(2, TrustedProxies::default());
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());

        let first = connections.open(one).unwrap();
        let second = connections.open(one).unwrap();
        assert!(connections.open(one).is_none());
        assert!(connections.open(other).is_some());
        drop(first);
        assert!(connections.open(one).is_some());

        drop(second);
        assert!(connections.lock().is_empty());
    }
}

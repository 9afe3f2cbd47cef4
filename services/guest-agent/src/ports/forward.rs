//! Makes ports that are bound to loopback only reachable from outside: a listener on the guest's address
//! for each, which hands every connection on. Bytes wait for whoever is slower; each side closes for itself.

use super::Served;
use crate::connections::{Connections, tune};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections of one port, and of all; more wait in the kernel's queue.
const PER_PORT: usize = 512;
const IN_ALL: usize = 1024;
/// Each way of each connection.
const BUFFER_BYTES: usize = 16 * 1024;

struct Forwarder {
    target: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Drop for Forwarder {
    /// No new connections; those that stand end by themselves.
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

pub struct Forwarders {
    /// None: nothing is forwarded.
    guest: Option<IpAddr>,
    live: HashMap<u16, Forwarder>,
    are_complete: bool,
    slots: Arc<Semaphore>,
    connections: Arc<Connections>,
}

impl Forwarders {
    pub fn new(guest: Option<IpAddr>, connections: Arc<Connections>) -> Self {
        let slots = Arc::new(Semaphore::new(IN_ALL));
        Self { guest, live: HashMap::new(), are_complete: true, slots, connections }
    }

    /// False: a port could not be bound yet, mostly because a connection has it as its own.
    pub fn are_complete(&self) -> bool {
        self.are_complete
    }

    pub fn is_own(&self, address: SocketAddr) -> bool {
        self.guest == Some(address.ip()) && self.live.contains_key(&address.port())
    }

    /// Exactly the loopback-only ports are forwarded from now on.
    pub async fn follow(&mut self, served: &[Served]) {
        let Some(guest) = self.guest else { return };
        let wanted: HashMap<u16, SocketAddr> =
            served.iter().filter_map(|s| Some((s.port, SocketAddr::new(s.loopback?, s.port)))).collect();
        self.live.retain(|port, forwarder| wanted.get(port) == Some(&forwarder.target));
        self.are_complete = true;
        for (port, target) in wanted {
            if self.live.contains_key(&port) || target.ip() == guest {
                continue;
            }
            match TcpListener::bind((guest, port)).await {
                Ok(listener) => {
                    let work = accept(listener, target, self.slots.clone(), self.connections.clone());
                    self.live.insert(port, Forwarder { target, accepting: tokio::spawn(work) });
                }
                Err(_) => self.are_complete = false,
            }
        }
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, in_all: Arc<Semaphore>, connections: Arc<Connections>) {
    let of_port = Arc::new(Semaphore::new(PER_PORT));
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors, most likely.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Neither is ever closed.
        let (Ok(one), Ok(other)) = (of_port.clone().acquire_owned().await, in_all.clone().acquire_owned().await) else {
            return;
        };
        connections.serve(|_| async move {
            let _slots = (one, other);
            relay(client, target).await;
        });
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr) {
    // A server that has just gone away: the client sees its connection close.
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    tune(&client);
    tune(&server);
    // How a connection ends is the business of its two sides.
    let _ = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER_BYTES, BUFFER_BYTES).await;
}

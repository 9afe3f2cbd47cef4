//! The TCP ports that are served in the guest: who watches is told, and those that are bound to loopback
//! only are forwarded, watched or not.

mod forward;
mod scan;

use crate::connections::Connections;
use crate::console::say;
use forward::Forwarders;
use scan::{Listener, Scanner};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

const POLL_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub port: u16,
    /// Some: bound to loopback only, and there.
    pub loopback: Option<IpAddr>,
}

/// Sorted by port.
pub type AllServed = Arc<[Served]>;

pub struct Ports(watch::Sender<AllServed>);

impl Default for Ports {
    fn default() -> Self {
        Self(watch::Sender::new(Arc::new([])))
    }
}

impl Ports {
    pub fn watch(&self) -> watch::Receiver<AllServed> {
        self.0.subscribe()
    }

    /// Looks once, then every 500 ms. `own` is the agent's port; forwarders listen on `guest`, if it is given.
    pub fn follow(self: &Arc<Self>, own: u16, guest: Option<IpAddr>, connections: Arc<Connections>) {
        match Scanner::open() {
            Ok(scanner) => drop(tokio::spawn(self.clone().look(scanner, own, Forwarders::new(guest, connections)))),
            Err(e) => say(format_args!("ports cannot be watched: {e}")),
        }
    }

    async fn look(self: Arc<Self>, mut scanner: Scanner, own: u16, mut forwarders: Forwarders) {
        let mut ticks = interval(POLL_EVERY);
        // After a freeze one look is enough.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (listeners, has_changed) = scanner.look();
            if !has_changed && forwarders.are_complete() {
                continue;
            }
            let is_ours = |l: &Listener| l.port == own || forwarders.is_own(SocketAddr::new(l.address, l.port));
            let served: AllServed = served(listeners.iter().filter(|l| !is_ours(l))).into();
            forwarders.follow(&served).await;
            self.0.send_if_modified(|known| {
                let is_new = *known != served;
                *known = served;
                is_new
            });
        }
    }
}

/// Of listeners sorted by port and address, so that 127.0.0.1 comes before ::1.
fn served<'a>(listeners: impl Iterator<Item = &'a Listener>) -> Vec<Served> {
    let mut all: Vec<Served> = Vec::new();
    for Listener { port, address } in listeners {
        let loopback = address.to_canonical().is_loopback().then(|| address.to_canonical());
        match all.last_mut().filter(|last| last.port == *port) {
            Some(last) if loopback.is_none() => last.loopback = None,
            Some(_) => {}
            None => all.push(Served { port: *port, loopback }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_a_port_loopback_only_if_all_its_addresses_are() {
        let listeners: Vec<Listener> = [
            (80, "0.0.0.0"),
            (3000, "127.0.0.1"),
            (3000, "::1"),
            (4000, "127.0.0.1"),
            (4000, "169.254.0.21"),
            (5000, "::"),
            (5353, "127.0.0.53"),
            (6000, "::ffff:127.0.0.1"),
            (7000, "::1"),
        ]
        .into_iter()
        .filter_map(|(port, address)| Some(Listener { port, address: address.parse().ok()? }))
        .collect();
        let got: Vec<_> =
            served(listeners.iter()).into_iter().map(|s| (s.port, s.loopback.map(|a| a.to_string()))).collect();
        let want = [
            (80, None),
            (3000, Some("127.0.0.1")),
            (4000, None),
            (5000, None),
            (5353, Some("127.0.0.53")),
            (6000, Some("127.0.0.1")),
            (7000, Some("::1")),
        ];
        assert_eq!(got, want.map(|(port, address)| (port, address.map(str::to_owned))));
    }
}

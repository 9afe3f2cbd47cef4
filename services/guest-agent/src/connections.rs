//! The open connections: bounded in number, and known, so that those which died with a frozen guest can be
//! dropped. Dropping one frees all that is done for it.

use nix::sys::socket::{setsockopt, sockopt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// Seconds of silence before a peer is asked whether it lives, between questions, and how many are asked.
const KEEPALIVE: (u32, u32, u32) = (60, 15, 4);

/// In the order of their arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

#[derive(Default)]
struct Open {
    last: u64,
    live: HashMap<ConnectionId, AbortHandle>,
}

#[derive(Default)]
pub struct Connections(Mutex<Open>);

impl Connections {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn drop_all_but(&self, kept: ConnectionId) {
        self.open().live.retain(|id, connection| {
            let keep = *id == kept;
            if !keep {
                connection.abort();
            }
            keep
        });
    }

    /// Runs what serves one connection.
    pub fn serve<F>(self: &Arc<Self>, work: impl FnOnce(ConnectionId) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // The lock is held until the entry stands: the connection cannot end before it is known.
        let mut open = self.open();
        open.last += 1;
        let id = ConnectionId(open.last);
        let (this, work) = (self.clone(), work(id));
        let task = tokio::spawn(async move {
            work.await;
            this.open().live.remove(&id);
        });
        open.live.insert(id, task.abort_handle());
    }
}

/// No keystroke waits for the next one, and a peer that is gone without a word is noticed. Both are
/// comforts: a connection works without.
pub fn tune(stream: &TcpStream) {
    let (idle, interval, count) = KEEPALIVE;
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &idle);
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &interval);
    let _ = setsockopt(stream, sockopt::TcpKeepCount, &count);
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
}

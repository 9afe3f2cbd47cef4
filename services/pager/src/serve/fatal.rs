//! What ends the VM. A guest must never see a page that is not its own, nor wait for one that will not come.

use super::peer::Peer;
use super::say;
use crate::format::Malformed;
use std::process;

/// The VM must end, or has nothing to live on.
#[derive(Debug)]
pub struct Fatal {
    pub reason: &'static str,
    pub message: String,
}

pub const FATAL_EXIT: u8 = 3;

impl Fatal {
    pub fn corrupt(why: &Malformed) -> Fatal {
        Fatal { reason: "SNAPSHOT_CORRUPT", message: why.to_string() }
    }

    pub fn handshake(message: String) -> Fatal {
        Fatal { reason: "HANDSHAKE_INVALID", message }
    }

    pub fn no_memory() -> Fatal {
        Fatal { reason: "MEMORY_EXHAUSTED", message: "no memory is left for a page of the guest".to_owned() }
    }

    pub fn internal(message: String) -> Fatal {
        Fatal { reason: "INTERNAL", message }
    }

    /// Says why first: whoever sees the VM dead shall find the reason there.
    pub fn strike(&self, peer: Option<&Peer>) {
        say::fatal(self.reason, &self.message);
        if let Some(peer) = peer {
            peer.kill();
        }
    }
}

/// A bug of ours must not leave the VM waiting for ever.
pub fn on_panic(peer: &Peer) {
    let peer = peer.again();
    std::panic::set_hook(Box::new(move |panic| {
        Fatal::internal(panic.to_string()).strike(peer.as_ref().ok());
        process::exit(FATAL_EXIT.into());
    }));
}

//! `wrenn-pager serve`: one VM, from its handshake to its end.

mod bitmap;
mod counters;
mod fatal;
mod listener;
mod memory;
mod messages;
mod peer;
mod prefetch;
mod record;
pub mod say;
mod turn;

pub use fatal::{FATAL_EXIT, Fatal};
pub use messages::{send, send_handshake};

use crate::chain::Chain;
use crate::format::working_set;
use crate::format::{Malformed, read_all};
use fatal::on_panic;
use listener::{Listener, StatsListener};
use memory::Memory;
use messages::receive;
use peer::Peer;
use prefetch::Prefetch;
use std::fs::File;
use std::path::PathBuf;
use turn::Turn;

pub struct Served {
    pub listen: PathBuf,
    pub header: File,
    pub files: Vec<(File, Option<File>)>,
    pub working_set: Option<File>,
    pub record: Option<File>,
    pub is_eager: bool,
}

/// Returns when the VM has ended.
pub fn serve(served: Served) -> Result<(), Fatal> {
    let mut peer = None;
    let ended = serve_peer(served, &mut peer);
    if let Err(fatal) = &ended {
        fatal.strike(peer.as_ref());
    }
    ended
}

/// The peer is there for the caller as soon as it is known.
fn serve_peer(served: Served, peer: &mut Option<Peer>) -> Result<(), Fatal> {
    let chain = Chain::open(&served.header, served.files).map_err(|why| Fatal::corrupt(&why))?;
    let blocks = chain.header().blocks;
    let prefetch = match &served.working_set {
        _ if served.is_eager => Prefetch::of_everything(chain.header()),
        Some(file) => Prefetch::of(&hint(file, blocks), chain.header()),
        None => Prefetch::of(&[], chain.header()),
    };
    let listener = Listener::bind(&served.listen)?;
    let stats = StatsListener::bind(&served.listen)?;
    say::listening();
    let stream = listener.accept()?;
    let peer = peer.insert(Peer::of(&stream)?);
    on_panic(peer);
    let (regions, uffd) = receive(&stream, chain.header().memory_bytes())?;
    let mut turn = Turn::new(Memory::new(chain, uffd, regions), prefetch, peer, stats);
    turn.until_the_end()?;
    if let Some(file) = served.record
        && let Err(error) = turn.record().write_to(&file)
    {
        eprintln!("wrenn-pager: the working set cannot be written: {error}");
    }
    turn.say_ended();
    Ok(())
}

/// A working set that does not read well costs time, not the VM.
fn hint(file: &File, memory_blocks: u32) -> Vec<u32> {
    let read = read_all(file, working_set::MOST_BYTES).and_then(|content| {
        let blocks = working_set::read(&content)?;
        match blocks.iter().find(|block| **block >= memory_blocks) {
            Some(block) => Err(Malformed(format!("block {block} of {memory_blocks}"))),
            None => Ok(blocks),
        }
    });
    read.unwrap_or_else(|why| {
        eprintln!("wrenn-pager: the working set is passed over: {why}");
        Vec::new()
    })
}

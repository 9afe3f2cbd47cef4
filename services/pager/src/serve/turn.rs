//! The pager's loop. One thread, which takes up to 16 faults at a time: a second one gains nothing with one or two
//! vCPUs, and a quarter at most when eight do nothing but fault (measured, README).
//! Prefetching yields to faults after each piece.

use super::counters::Counters;
use super::fatal::Fatal;
use super::listener::StatsListener;
use super::memory::{End, Memory};
use super::peer::Peer;
use super::prefetch::{MOST_PIECE_BLOCKS, Prefetch};
use super::record::Record;
use super::say;
use crate::uffd::Event;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

pub struct Turn<'a> {
    memory: Memory,
    prefetch: Option<Prefetch>,
    peer: &'a Peer,
    stats: StatsListener,
    record: Record,
    counters: Counters,
    begun: Instant,
}

struct Ready {
    has_ended: bool,
    is_asked: bool,
}

const WITHOUT_WAITING: libc::c_int = 0;
const FOR_EVER: libc::c_int = -1;

impl<'a> Turn<'a> {
    pub fn new(memory: Memory, prefetch: Prefetch, peer: &'a Peer, stats: StatsListener) -> Turn<'a> {
        let begun = Instant::now();
        let record = Record::new(memory.blocks(), begun);
        Turn { memory, prefetch: Some(prefetch), peer, stats, record, counters: Counters::default(), begun }
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Says what it did in all.
    pub fn say_ended(&mut self) {
        self.count();
        say::ended(&self.counters);
    }

    pub fn until_the_end(&mut self) -> Result<(), Fatal> {
        loop {
            let ready = self.wait(if self.prefetch.is_some() { WITHOUT_WAITING } else { FOR_EVER })?;
            if ready.has_ended {
                return Ok(());
            }
            if ready.is_asked {
                self.count();
                self.stats.answer(&self.counters);
            }
            match self.serve_events().and_then(|()| self.prefetch_some()) {
                Ok(()) => {}
                Err(End::VmGone) => return Ok(()),
                Err(End::Fatal(fatal)) => return Err(fatal),
            }
        }
    }

    fn count(&mut self) {
        self.counters.copied_bytes = self.memory.copied_bytes;
        self.counters.resident_pages = self.memory.placed_pages;
    }

    fn wait(&self, timeout_ms: libc::c_int) -> Result<Ready, Fatal> {
        let watched = [self.memory.uffd.as_fd(), self.peer.as_fd(), self.stats.as_fd()];
        let mut polls = watched.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        // SAFETY: an array of so many pollfds, which outlives the call.
        let count = unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, timeout_ms) };
        if count < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(Fatal::internal(format!("poll: {error}")));
            }
        }
        Ok(Ready { has_ended: count > 0 && polls[1].revents != 0, is_asked: count > 0 && polls[2].revents != 0 })
    }

    /// Until nothing waits: what is read while a page is filled shows in no poll.
    fn serve_events(&mut self) -> Result<(), End> {
        loop {
            for event in self.memory.events()? {
                self.serve(event)?;
            }
            if !self.memory.has_events() {
                return Ok(());
            }
        }
    }

    fn serve(&mut self, event: Event) -> Result<(), End> {
        let begun = Instant::now();
        match event {
            Event::Fault { address } => {
                let (first, count) = self.memory.fault(address)?;
                self.record.faulted(first, count, begun);
                self.counters.served(begun.elapsed());
            }
            Event::Removed { start, end } => self.memory.remove(start, end),
            Event::Unknown(kind) => return Err(Fatal::handshake(format!("event {kind:#x} of userfaultfd")).into()),
        }
        Ok(())
    }

    /// As much as one long piece, so that many short ones do not each cost a look at who waits.
    fn prefetch_some(&mut self) -> Result<(), End> {
        let Some(prefetch) = &mut self.prefetch else { return Ok(()) };
        let before = self.memory.placed_pages;
        let mut brought = 0;
        let mut is_done = false;
        while brought < MOST_PIECE_BLOCKS && !is_done {
            match prefetch.next() {
                Some((first, count)) => {
                    self.memory.prefetch(first, count)?;
                    self.record.prefetched(first, count);
                    brought += count;
                }
                None => is_done = true,
            }
        }
        self.counters.prefetched_pages += self.memory.placed_pages - before;
        if is_done {
            self.prefetch = None;
            say::prefetched(self.counters.prefetched_pages, self.begun.elapsed());
        }
        Ok(())
    }
}

//! The guest's memory as far as it is there. A page that is there is the guest's: it is never written again.

use super::bitmap::Bitmap;
use super::fatal::Fatal;
use super::prefetch::MOST_PIECE_BLOCKS;
use crate::chain::Chain;
use crate::format::header::Place;
use crate::format::{BLOCK, BLOCK_BYTES};
use crate::regions::Regions;
use crate::uffd::{Event, Filled, Uffd};

/// A fault brings the pages around it, as far as they lie behind each other in one file: a fault costs 50 pages'
/// copying, and who touches a page soon touches its neighbours.
const AROUND: u32 = 16;

pub struct Memory {
    chain: Chain,
    pub uffd: Uffd,
    regions: Regions,
    /// Filled by us, or found filled.
    there: Bitmap,
    /// Given back by the guest.
    removed: Bitmap,
    /// Read while a range was being filled; to be handled next.
    events: Vec<Event>,
    content: Vec<u8>,
    pub placed_pages: u64,
    pub copied_bytes: u64,
}

#[derive(PartialEq, Eq)]
enum Filling {
    Done,
    /// The VM changed its memory meanwhile.
    Again,
}

/// Why no more pages are needed, or can be had.
pub enum End {
    VmGone,
    Fatal(Fatal),
}

impl From<Fatal> for End {
    fn from(fatal: Fatal) -> End {
        End::Fatal(fatal)
    }
}

impl Memory {
    pub fn new(chain: Chain, uffd: Uffd, regions: Regions) -> Memory {
        let blocks = chain.header().blocks;
        Memory {
            chain,
            uffd,
            regions,
            there: Bitmap::new(blocks),
            removed: Bitmap::new(blocks),
            events: Vec::new(),
            content: vec![0; MOST_PIECE_BLOCKS as usize * BLOCK],
            placed_pages: 0,
            copied_bytes: 0,
        }
    }

    pub fn blocks(&self) -> u32 {
        self.chain.header().blocks
    }

    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What the VM waits for.
    pub fn events(&mut self) -> Result<Vec<Event>, End> {
        if !self.events.is_empty() {
            return Ok(std::mem::take(&mut self.events));
        }
        self.uffd.events().map_err(|error| Fatal::internal(format!("userfaultfd: {error}")).into())
    }

    /// Serves the page at an address and those around it. Returns what it brought in.
    pub fn fault(&mut self, address: u64) -> Result<(u32, u32), End> {
        let Some(block) = self.regions.block_at(address) else {
            return Err(Fatal::handshake(format!("a fault at {address:#x}, in none of the regions")).into());
        };
        loop {
            let (first, count) = if self.removed.has(block) { (block, 1) } else { self.around(block) };
            if self.bring(first, count)? == Filling::Done {
                return Ok((first, count));
            }
        }
    }

    /// Fills what is missing of neighbouring blocks in one run.
    pub fn prefetch(&mut self, mut first: u32, count: u32) -> Result<(), End> {
        let end = first + count;
        while first < end {
            let stop = (first..end).find(|block| self.is_settled(*block)).unwrap_or(end);
            if first == stop {
                first += 1;
            } else if self.bring(first, stop - first)? == Filling::Done {
                first = stop;
            }
        }
        Ok(())
    }

    pub fn remove(&mut self, start: u64, end: u64) {
        for address in (start..end).step_by(BLOCK) {
            if let Some(block) = self.regions.block_at(address) {
                self.removed.set(block);
            }
        }
    }

    fn is_settled(&self, block: u32) -> bool {
        self.there.has(block) || self.removed.has(block)
    }

    /// The missing neighbours of a block within its run and its window. The block itself counts as missing,
    /// whatever we think: the guest says so.
    fn around(&self, block: u32) -> (u32, u32) {
        let run = self.chain.header().run_of(block);
        let window = block / AROUND * AROUND;
        let (low, high) = (window.max(run.first), (window + AROUND).min(run.end()));
        let first = (low..block).rev().find(|before| self.is_settled(*before)).map_or(low, |before| before + 1);
        let end = (block + 1..high).find(|behind| self.is_settled(*behind)).unwrap_or(high);
        (first, end - first)
    }

    /// Neighbouring blocks of one run, all of which are removed, or none.
    fn bring(&mut self, first: u32, count: u32) -> Result<Filling, End> {
        let is_zero = self.removed.has(first) || self.chain.header().run_of(first).place == Place::Zero;
        if !is_zero {
            let content = &mut self.content[..count as usize * BLOCK];
            self.chain.read(first, content).map_err(|why| Fatal::corrupt(&why))?;
        }
        let mut done = 0;
        while done < count {
            let (address, behind) = self.regions.address_of(first + done);
            let bytes = u64::from(behind.min(count - done)) * BLOCK_BYTES;
            let filled = if is_zero {
                self.uffd.zero(address, bytes)
            } else {
                let from = done as usize * BLOCK;
                self.uffd.copy(address, &self.content[from..from + bytes as usize])
            };
            let Some(pages) = self.advance(&filled, address, bytes)? else { return Ok(Filling::Again) };
            if !is_zero {
                self.copied_bytes += filled.bytes;
            }
            for block in first + done..first + done + pages {
                self.there.set(block);
            }
            done += pages;
        }
        Ok(Filling::Done)
    }

    /// By how many pages a step went on, or nothing if the VM changes its memory meanwhile.
    fn advance(&mut self, filled: &Filled, address: u64, asked: u64) -> Result<Option<u32>, End> {
        let pages = (filled.bytes / BLOCK_BYTES) as u32;
        self.placed_pages += u64::from(pages);
        match filled.stopped_by {
            None => Ok(Some(pages)),
            Some(_) if pages > 0 => Ok(Some(pages)),
            // Somebody was faster; who waits for it does not know.
            Some(libc::EEXIST) => self.wake(address, BLOCK_BYTES).map(Some),
            // Not the guest's memory any more.
            Some(libc::ENOENT) => self.wake(address, asked).map(Some),
            Some(libc::EAGAIN) => self.hear_changes().map(|()| None),
            Some(libc::ESRCH) => Err(End::VmGone),
            Some(libc::ENOMEM | libc::ENOSPC) => Err(Fatal::no_memory().into()),
            Some(errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
                Err(Fatal::internal(format!("the page at {address:#x} cannot be filled: {error}")).into())
            }
        }
    }

    /// A VM that gives pages back waits for us to hear it, and until then nothing can be filled. What was about to
    /// be filled may be among them, so that is decided again.
    fn hear_changes(&mut self) -> Result<(), End> {
        let events = self.uffd.events().map_err(|error| Fatal::internal(format!("userfaultfd: {error}")))?;
        if events.is_empty() {
            std::thread::yield_now();
        }
        for event in events {
            match event {
                Event::Removed { start, end } => self.remove(start, end),
                later => self.events.push(later),
            }
        }
        Ok(())
    }

    fn wake(&self, address: u64, bytes: u64) -> Result<u32, End> {
        match self.uffd.wake(address, bytes) {
            Ok(()) => Ok((bytes / BLOCK_BYTES) as u32),
            Err(error) => Err(Fatal::internal(format!("userfaultfd: {error}")).into()),
        }
    }
}

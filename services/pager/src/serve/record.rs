//! Which blocks were touched first, for the next restore to have them in place.

use super::bitmap::Bitmap;
use crate::format::working_set;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const RECORDED_FOR: Duration = Duration::from_secs(10);
const MOST_BLOCKS: usize = 65_536;

pub struct Record {
    until: Instant,
    seen: Bitmap,
    blocks: Vec<u32>,
}

impl Record {
    pub fn new(memory_blocks: u32, begun: Instant) -> Record {
        Record { until: begun + RECORDED_FOR, seen: Bitmap::new(memory_blocks), blocks: Vec::new() }
    }

    /// Blocks that were there before anybody asked.
    pub fn prefetched(&mut self, first: u32, count: u32) {
        for block in first..first + count {
            if self.blocks.len() < MOST_BLOCKS && self.seen.set(block) {
                self.blocks.push(block);
            }
        }
    }

    /// Blocks that came for a fault.
    pub fn faulted(&mut self, first: u32, count: u32, at: Instant) {
        if at < self.until {
            self.prefetched(first, count);
        }
    }

    pub fn write_to(&self, file: &File) -> io::Result<()> {
        file.set_len(0)?;
        file.write_all_at(&working_set::write(&self.blocks), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_each_block_once_in_the_order_of_the_first_touch() {
        let begun = Instant::now();
        let mut record = Record::new(100, begun);
        record.prefetched(4, 2);
        record.faulted(90, 1, begun);
        record.faulted(3, 4, begun);
        assert_eq!(record.blocks, [4, 5, 90, 3, 6]);
    }

    #[test]
    fn takes_no_fault_after_ten_seconds() {
        let begun = Instant::now();
        let mut record = Record::new(100, begun);
        record.faulted(1, 1, begun + Duration::from_millis(9_999));
        record.faulted(2, 1, begun + Duration::from_secs(10));
        assert_eq!(record.blocks, [1]);
    }

    #[test]
    fn grows_to_its_limit_and_no_further() {
        let begun = Instant::now();
        let mut record = Record::new(1 << 20, begun);
        record.faulted(0, 1 << 20, begun);
        assert_eq!(record.blocks.len(), MOST_BLOCKS);
    }
}

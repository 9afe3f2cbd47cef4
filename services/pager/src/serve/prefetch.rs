//! What is brought in before anybody asks, in pieces that lie behind each other in one file.

use crate::format::header::Header;
use std::collections::VecDeque;

/// Sorted together, and so joined into pieces: the working set is in place before the VM runs, so that the order
/// within it matters little, while pages copied together cost half of pages copied one by one.
const SORTED_TOGETHER: usize = 4096;
/// 256 KiB: longer ones are no faster, and a fault that comes meanwhile waits for the end of one.
pub const MOST_PIECE_BLOCKS: u32 = 64;

pub struct Prefetch {
    /// First block and number of blocks.
    pieces: VecDeque<(u32, u32)>,
}

impl Prefetch {
    pub fn of(working_set: &[u32], header: &Header) -> Prefetch {
        let mut pieces = VecDeque::new();
        let mut sorted = working_set.to_vec();
        for part in sorted.chunks_mut(SORTED_TOGETHER) {
            part.sort_unstable();
            for stretch in part.chunk_by(|before, after| before + 1 == *after) {
                cut(stretch[0], stretch.len() as u32, header, &mut pieces);
            }
        }
        Prefetch { pieces }
    }

    pub fn of_everything(header: &Header) -> Prefetch {
        let mut pieces = VecDeque::new();
        cut(0, header.blocks, header, &mut pieces);
        Prefetch { pieces }
    }

    pub fn next(&mut self) -> Option<(u32, u32)> {
        self.pieces.pop_front()
    }
}

/// At the ends of runs, and where a piece gets too long.
fn cut(mut first: u32, count: u32, header: &Header, pieces: &mut VecDeque<(u32, u32)>) {
    let end = first + count;
    while first < end {
        let stop = header.run_of(first).end().min(end).min(first + MOST_PIECE_BLOCKS);
        pieces.push_back((first, stop - first));
        first = stop;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::header::{Place, Run};

    fn header() -> Header {
        let stored = |offset| Place::Stored { build: 0, offset };
        let runs = vec![
            Run { first: 0, blocks: 10, place: stored(0) },
            Run { first: 10, blocks: 20, place: Place::Zero },
            Run { first: 30, blocks: 970, place: stored(40_960) },
        ];
        Header { generation: 0, blocks: 1000, builds: Vec::new(), runs }
    }

    #[test]
    fn joins_neighbours_within_a_run_whatever_their_order() {
        let prefetch = Prefetch::of(&[31, 9, 10, 8, 30, 500, 11], &header());
        assert_eq!(prefetch.pieces, [(8, 2), (10, 2), (30, 2), (500, 1)]);
    }

    #[test]
    fn everything_is_each_block_once_in_pieces_of_bounded_length() {
        let prefetch = Prefetch::of_everything(&header());
        assert_eq!(prefetch.pieces.iter().map(|piece| piece.1).sum::<u32>(), 1000);
        assert!(prefetch.pieces.iter().all(|piece| piece.1 <= MOST_PIECE_BLOCKS));
    }
}

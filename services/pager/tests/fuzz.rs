//! Readers of what others write, on a fixed stream of valid, random and mutated inputs: none panics, takes more
//! memory than its input allows, or accepts what breaks a rule.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use support::encode::{Header as Encoded, ZERO, sealed, snapshot_id, sums as encode_sums, working_set as encode_set};
use support::random::Random;
use wrenn_pager::format::header::{Header, Place};
use wrenn_pager::format::{sums, working_set};
use wrenn_pager::handshake::{self, Handshake};

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + layout.size());
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: it came from `alloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs a reader that may take a few times its input, and a little for messages.
fn bounded<T>(input: &[u8], read: impl FnOnce(&[u8]) -> T) -> T {
    let before = ALLOCATED.get();
    let result = read(input);
    let taken = ALLOCATED.get() - before;
    assert!(taken <= 16 * input.len() + 4096, "{taken} bytes taken for an input of {}", input.len());
    result
}

const ODD: [u64; 14] =
    [0, 1, 2, 3, 4095, 4096, 4097, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF, 1 << 40, 1 << 63, u64::MAX];

fn mutate(random: &mut Random, content: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.below(content.len() as u64 + 1) as usize;
        let odd = ODD[random.below(ODD.len() as u64) as usize].wrapping_add(random.below(3).wrapping_sub(1));
        match random.below(8) {
            0 if at < content.len() => content[at] ^= 1 << random.below(8),
            1 if at < content.len() => content[at] = random.next() as u8,
            2 => content.truncate(at),
            3 => content.extend(odd.to_le_bytes()),
            4 if at + 4 <= content.len() => content[at..at + 4].copy_from_slice(&odd.to_le_bytes()[..4]),
            5 if at / 4 * 4 + 4 <= content.len() => {
                content[at / 4 * 4..][..4].copy_from_slice(&odd.to_le_bytes()[..4]);
            }
            6 if at / 8 * 8 + 8 <= content.len() => content[at / 8 * 8..][..8].copy_from_slice(&odd.to_le_bytes()),
            _ => {
                let piece = content[at..].iter().take(24).copied().collect::<Vec<_>>();
                content.splice(at..at, piece);
            }
        }
    }
}

/// A valid header of any shape.
fn any_header(random: &mut Random) -> Encoded {
    let builds: Vec<(String, u64)> =
        (0..1 + random.below(10)).map(|index| (snapshot_id(&index.to_string()), random.below(64) * 4096)).collect();
    let mut runs: Vec<(u32, u32, u32, u64)> = Vec::new();
    let mut first = 0;
    for _ in 0..1 + random.below(30) {
        let build = random.below(builds.len() as u64) as u32;
        let stored = (builds[build as usize].1 / 4096) as u32;
        let (mut blocks, mut build, mut offset) = (1 + random.below(30) as u32, build, 0);
        if blocks > stored || random.one_in(3) {
            build = ZERO;
        } else {
            offset = random.below(u64::from(stored - blocks) + 1) * 4096;
        }
        if let Some((_, before, of, at)) = runs.last_mut() {
            let goes_on = *of == build && (build == ZERO || *at + u64::from(*before) * 4096 == offset);
            if goes_on {
                *before += blocks;
                first += blocks;
                blocks = 0;
            }
        }
        if blocks > 0 {
            runs.push((first, blocks, build, offset));
            first += blocks;
        }
    }
    let memory_bytes = u64::from(first) * 4096;
    Encoded { block_bytes: 4096, generation: random.below(11) as u32, memory_bytes, builds, runs }
}

/// The rules of the document, said again. What a reader accepts has to hold them.
fn assert_rules(header: &Header) {
    let mut end = 0u64;
    for (index, run) in header.runs.iter().enumerate() {
        assert_eq!(u64::from(run.first), end);
        assert!(run.blocks > 0);
        end += u64::from(run.blocks);
        if let Place::Stored { build, offset } = run.place {
            let stored = header.builds[build as usize].stored_bytes;
            assert!(offset % 4096 == 0 && offset as u128 + u128::from(run.blocks) * 4096 <= u128::from(stored));
        }
        if let Some(next) = header.runs.get(index + 1) {
            let goes_on = match (run.place, next.place) {
                (Place::Zero, Place::Zero) => true,
                (Place::Stored { build, offset }, Place::Stored { build: other, offset: at }) => {
                    build == other && offset + u64::from(run.blocks) * 4096 == at
                }
                _ => false,
            };
            assert!(!goes_on);
        }
    }
    assert_eq!(end, u64::from(header.blocks));
    assert!((1..=64).contains(&header.builds.len()) && header.builds.iter().all(|build| build.id.len() == 28));
}

fn header_entry(content: &[u8]) -> bool {
    let read = bounded(content, Header::read);
    if let Ok(header) = &read {
        assert_rules(header);
    }
    read.is_ok()
}

#[test]
fn any_valid_header_is_read_as_it_was_written() {
    let mut random = Random::new(1);
    for round in 0..2_000 {
        let encoded = any_header(&mut random);
        let header = Header::read(&encoded.bytes()).unwrap_or_else(|why| panic!("round {round}: {why}"));
        assert_rules(&header);
        assert_eq!(header.runs.len(), encoded.runs.len());
        for (first, blocks, build, offset) in encoded.runs {
            for block in first..first + blocks {
                let expected = if build == ZERO {
                    Place::Zero
                } else {
                    Place::Stored { build, offset: offset + u64::from(block - first) * 4096 }
                };
                assert_eq!(header.run_of(block).place_of(block), expected, "round {round}, block {block}");
            }
        }
    }
}

#[test]
fn no_mutated_header_is_accepted_that_breaks_a_rule() {
    let mut random = Random::new(2);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..60_000 {
        let mut content = any_header(&mut random).bytes();
        // Mostly with a right CRC, else nothing behind it would be tried.
        if random.one_in(4) {
            mutate(&mut random, &mut content);
        } else {
            content.truncate(content.len() - 4);
            mutate(&mut random, &mut content);
            content = sealed(content);
        }
        if header_entry(&content) { accepted += 1 } else { refused += 1 }
    }
    assert!(accepted > 500 && refused > 30_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn no_random_bytes_are_a_header() {
    let mut random = Random::new(3);
    for _ in 0..5_000 {
        let mut content = random.block();
        content.truncate(random.below(400) as usize);
        assert!(!header_entry(&content));
    }
}

#[test]
fn counts_that_the_file_does_not_hold_cost_no_memory() {
    for (builds, runs) in [(64u32, 1u32 << 22), (1, 1 << 22), (64, 1), (u32::MAX, u32::MAX)] {
        let mut content = any_header(&mut Random::new(4)).bytes();
        content.truncate(content.len() - 4);
        content[24..28].copy_from_slice(&builds.to_le_bytes());
        content[28..32].copy_from_slice(&runs.to_le_bytes());
        assert!(!header_entry(&sealed(content)));
    }
}

#[test]
fn mutated_sums_and_working_sets_are_read_whole_or_not() {
    let mut random = Random::new(5);
    for _ in 0..20_000 {
        let numbers: Vec<u32> = (0..random.below(40)).map(|_| random.next() as u32).collect();
        let mut content = if random.one_in(2) { encode_sums(&numbers) } else { encode_set(&numbers) };
        content.truncate(content.len() - 4);
        mutate(&mut random, &mut content);
        let content = sealed(content);
        if let Ok(found) = bounded(&content, sums::read) {
            assert_eq!(content.len(), 20 + 4 * found.len());
        }
        if let Ok(found) = bounded(&content, working_set::read) {
            assert_eq!(content, working_set::write(&found));
        }
    }
}

fn handshake_entry(message: &[u8], memory_bytes: u64) -> bool {
    let Ok(Handshake::Regions(regions)) = bounded(message, |message| handshake::read(message, memory_bytes)) else {
        return false;
    };
    let blocks = (memory_bytes / 4096) as u32;
    let mut block = 0;
    while block < blocks {
        let (address, behind) = regions.address_of(block);
        assert_eq!(address % 4096, 0);
        assert_eq!(regions.block_at(address), Some(block));
        assert_eq!(regions.block_at(address + u64::from(behind) * 4096 - 1), Some(block + behind - 1));
        block += behind;
    }
    assert_eq!(block, blocks);
    true
}

fn any_handshake(random: &mut Random, memory_blocks: u64) -> String {
    let (mut regions, mut block, mut address) = (Vec::new(), 0, 0x7000_0000_0000u64);
    while block < memory_blocks {
        let blocks = (1 + random.below(memory_blocks)).min(memory_blocks - block);
        regions.push(format!(
            r#"{{"base_host_virt_addr":{address},"size":{},"offset":{},"page_size":4096,"page_size_kib":4}}"#,
            blocks * 4096,
            block * 4096
        ));
        block += blocks;
        address += (blocks + random.below(3)) * 4096;
    }
    format!("[{}]", regions.join(", "))
}

#[test]
fn no_mutated_handshake_is_accepted_that_breaks_a_rule() {
    let mut random = Random::new(6);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..40_000 {
        let blocks = 1 + random.below(200);
        let said = any_handshake(&mut random, blocks);
        assert!(handshake_entry(said.as_bytes(), blocks * 4096), "round {round}: {said}");
        let mut mutated = said.clone().into_bytes();
        match random.below(3) {
            0 => mutate(&mut random, &mut mutated),
            1 => {
                let odd = ODD[random.below(ODD.len() as u64) as usize].to_string();
                mutated = said.replacen("4096", &odd, 1 + random.below(2) as usize).into_bytes();
            }
            _ => {
                let at = random.below(mutated.len() as u64) as usize;
                let digit = b"0123456789-.e[]{},:\"n"[random.below(21) as usize];
                mutated[at] = digit;
            }
        }
        if handshake_entry(&mutated, blocks * 4096) { accepted += 1 } else { refused += 1 }
    }
    assert!(accepted > 500 && refused > 20_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn the_beginning_of_a_handshake_is_waited_for_and_nonsense_is_not() {
    let said = any_handshake(&mut Random::new(7), 100);
    for end in 0..said.len() {
        let read = handshake::read(&said.as_bytes()[..end], 100 * 4096);
        assert!(matches!(read, Ok(Handshake::Unfinished)), "{}", &said[..end]);
    }
    for nonsense in ["x", "[x", "{\"a\":1}", "[1]", "[{}]", "null", "[[[[[[[[[["] {
        assert!(!matches!(handshake::read(nonsense.as_bytes(), 4096), Ok(Handshake::Regions(_))));
    }
    assert!(handshake::read("[".repeat(handshake::MOST_BYTES).as_bytes(), 4096).is_err());
    assert!(handshake::read(format!("[{}", " ".repeat(handshake::MOST_BYTES)).as_bytes(), 4096).is_err());
}

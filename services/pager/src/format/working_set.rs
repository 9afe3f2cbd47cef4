//! `workingset`: blocks in the order of their first touch. A hint: what is damaged is passed over by its readers.

use super::Malformed;
use super::bytes::Bytes;
use std::collections::HashSet;

const MAGIC: &[u8; 8] = b"WRNWSET1";
const MOST_BLOCKS: u32 = 1 << 22;

pub const MOST_BYTES: u64 = 16 + 4 * MOST_BLOCKS as u64;

pub fn read(content: &[u8]) -> Result<Vec<u32>, Malformed> {
    let mut bytes = Bytes::checked(content, MAGIC)?;
    let count = bytes.u32()?;
    if count > MOST_BLOCKS || bytes.left() as u64 != 4 * u64::from(count) {
        return Err(Malformed(format!("{} bytes do not hold {count} blocks", content.len())));
    }
    let blocks = (0..count).map(|_| bytes.u32()).collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::with_capacity(blocks.len());
    match blocks.iter().find(|block| !seen.insert(**block)) {
        Some(twice) => Err(Malformed(format!("block {twice} twice"))),
        None => Ok(blocks),
    }
}

pub fn write(blocks: &[u32]) -> Vec<u8> {
    let mut content = Vec::with_capacity(16 + 4 * blocks.len());
    content.extend_from_slice(MAGIC);
    content.extend_from_slice(&(blocks.len() as u32).to_le_bytes());
    content.extend(blocks.iter().flat_map(|block| block.to_le_bytes()));
    content.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    content
}

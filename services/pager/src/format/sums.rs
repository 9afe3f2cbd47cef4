//! `memfile.<build id>.sums`: the CRC-32 of each stored block of a build.

use super::bytes::Bytes;
use super::{BLOCK_BYTES, Malformed};

const MAGIC: &[u8; 8] = b"WRNMEMS1";

/// The size of the file for a build of so many stored bytes.
pub fn file_bytes(stored_bytes: u64) -> u64 {
    20 + 4 * (stored_bytes / BLOCK_BYTES)
}

pub fn read(content: &[u8]) -> Result<Vec<u32>, Malformed> {
    let mut bytes = Bytes::checked(content, MAGIC)?;
    let count = bytes.u64()?;
    let held = bytes.left() / 4;
    if bytes.left() % 4 != 0 || count != held as u64 {
        return Err(Malformed(format!("{} bytes do not hold {count} checksums", content.len())));
    }
    (0..held).map(|_| bytes.u32()).collect()
}

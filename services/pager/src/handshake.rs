//! Firecracker's handshake: a JSON array of the guest's regions, and the userfaultfd beside it.
//! The peer may be a hostile VMM: what it says is checked before use.

use crate::format::{BLOCK_BYTES, Malformed};
use crate::regions::{Region, Regions};
use serde::{Deserialize, Serialize};

/// More than any VMM has to say.
pub const MOST_BYTES: usize = 64 * 1024;
const MOST_REGIONS: usize = 64;
/// Where user space ends, five-level paging included.
const ADDRESS_END: u64 = 1 << 56;

#[derive(Serialize, Deserialize)]
struct Mapping {
    base_host_virt_addr: u64,
    size: u64,
    /// Where it lies in the guest's memory.
    offset: u64,
    /// Firecracker before 1.4 does not send it.
    #[serde(default = "small_pages")]
    page_size: u64,
}

fn small_pages() -> u64 {
    BLOCK_BYTES
}

#[derive(Debug)]
pub enum Handshake {
    /// So far it is the beginning of one.
    Unfinished,
    Regions(Regions),
}

/// Reads it for a guest of so much memory.
pub fn read(message: &[u8], memory_bytes: u64) -> Result<Handshake, Malformed> {
    let mappings: Vec<Mapping> = match serde_json::from_slice(message) {
        Ok(mappings) => mappings,
        Err(error) if error.is_eof() && message.len() < MOST_BYTES => return Ok(Handshake::Unfinished),
        Err(error) => return Err(Malformed(format!("the handshake is no list of regions: {error}"))),
    };
    if mappings.is_empty() || mappings.len() > MOST_REGIONS {
        return Err(Malformed(format!("a handshake of {} regions", mappings.len())));
    }
    let regions = mappings.iter().map(region).collect::<Result<Vec<_>, _>>()?;
    Ok(Handshake::Regions(Regions::new(regions, memory_bytes)?))
}

pub fn write(regions: &[Region]) -> Vec<u8> {
    let mappings = regions.iter().map(|region| Mapping {
        base_host_virt_addr: region.address,
        size: region.bytes,
        offset: region.offset,
        page_size: BLOCK_BYTES,
    });
    serde_json::to_vec(&mappings.collect::<Vec<_>>()).unwrap_or_default()
}

fn region(mapping: &Mapping) -> Result<Region, Malformed> {
    let Mapping { base_host_virt_addr: address, size: bytes, offset, page_size } = *mapping;
    let is_aligned = (address | bytes | offset) % BLOCK_BYTES == 0;
    let end = address.checked_add(bytes);
    if page_size != BLOCK_BYTES || !is_aligned || bytes == 0 || end.is_none_or(|end| end > ADDRESS_END) {
        return Err(Malformed(format!(
            "a region of {bytes} bytes at {address:#x}, offset {offset}, in pages of {page_size}"
        )));
    }
    Ok(Region { address, bytes, offset })
}

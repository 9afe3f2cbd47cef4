//! Where the guest's memory lies in the VMM.
//! Holds: the regions cover the memory once and whole, none overlaps another in the VMM.

use crate::format::{BLOCK_BYTES, Malformed};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    pub address: u64,
    pub bytes: u64,
    /// In the guest's memory.
    pub offset: u64,
}

#[derive(Debug)]
pub struct Regions {
    by_offset: Vec<Region>,
    by_address: Vec<Region>,
}

impl Regions {
    pub fn new(mut regions: Vec<Region>, memory_bytes: u64) -> Result<Regions, Malformed> {
        regions.sort_by_key(|region| region.offset);
        let mut end = 0u64;
        for region in &regions {
            if region.offset != end {
                return Err(Malformed(format!("a region at offset {}, not {end}", region.offset)));
            }
            end = end.checked_add(region.bytes).ok_or_else(|| Malformed("regions without end".to_owned()))?;
        }
        if end != memory_bytes {
            return Err(Malformed(format!("regions of {end} bytes for {memory_bytes} bytes of memory")));
        }
        let mut by_address = regions.clone();
        by_address.sort_by_key(|region| region.address);
        if by_address.windows(2).any(|two| two[0].address + two[0].bytes > two[1].address) {
            return Err(Malformed("regions that overlap".to_owned()));
        }
        Ok(Regions { by_offset: regions, by_address })
    }

    pub fn block_at(&self, address: u64) -> Option<u32> {
        let index = self.by_address.partition_point(|region| region.address <= address).checked_sub(1)?;
        let region = self.by_address[index];
        let within = address - region.address;
        (within < region.bytes).then(|| ((region.offset + within) / BLOCK_BYTES) as u32)
    }

    /// The address of a block of the memory, and how many blocks from it on lie behind each other.
    pub fn address_of(&self, block: u32) -> (u64, u32) {
        let at = u64::from(block) * BLOCK_BYTES;
        let region = self.by_offset[self.by_offset.partition_point(|region| region.offset <= at) - 1];
        let within = at - region.offset;
        (region.address + within, ((region.bytes - within) / BLOCK_BYTES) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn two() -> Result<Regions, Malformed> {
        let low = Region { address: 0x7000_0000_0000, bytes: 2 * MIB, offset: 0 };
        let high = Region { address: 0x6000_0000_0000, bytes: MIB, offset: 2 * MIB };
        Regions::new(vec![high, low], 3 * MIB)
    }

    #[test]
    fn each_block_has_one_address_and_back() -> Result<(), Malformed> {
        let regions = two()?;
        for block in 0..768 {
            let (address, behind) = regions.address_of(block);
            assert_eq!(regions.block_at(address), Some(block));
            assert_eq!(regions.block_at(address + 4095), Some(block));
            assert_eq!(behind, if block < 512 { 512 - block } else { 768 - block });
        }
        Ok(())
    }

    #[test]
    fn an_address_outside_is_no_block() -> Result<(), Malformed> {
        let regions = two()?;
        for address in [0, 0x6000_0000_0000 - 1, 0x6000_0000_0000 + MIB, 0x7000_0000_0000 + 2 * MIB, u64::MAX] {
            assert_eq!(regions.block_at(address), None, "{address:#x}");
        }
        Ok(())
    }
}

//! A bit for each block of the memory.

pub struct Bitmap(Vec<u64>);

impl Bitmap {
    pub fn new(blocks: u32) -> Bitmap {
        Bitmap(vec![0; blocks.div_ceil(64) as usize])
    }

    pub fn has(&self, block: u32) -> bool {
        self.0[(block / 64) as usize] & (1 << (block % 64)) != 0
    }

    /// Says whether it was not set before.
    pub fn set(&mut self, block: u32) -> bool {
        let word = &mut self.0[(block / 64) as usize];
        let is_new = *word & (1 << (block % 64)) == 0;
        *word |= 1 << (block % 64);
        is_new
    }
}

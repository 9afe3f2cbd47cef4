//! Writes the formats of docs/formats.md as the document has them, by other code than what reads them.

use serde_json::{Value, json};

pub const ZERO: u32 = 0xFFFF_FFFF;

#[derive(Clone)]
pub struct Header {
    pub block_bytes: u32,
    pub generation: u32,
    pub memory_bytes: u64,
    pub builds: Vec<(String, u64)>,
    /// First block, blocks, build, offset.
    pub runs: Vec<(u32, u32, u32, u64)>,
}

impl Header {
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"WRNMEMH1".to_vec();
        out.extend(self.block_bytes.to_le_bytes());
        out.extend(self.generation.to_le_bytes());
        out.extend(self.memory_bytes.to_le_bytes());
        out.extend((self.builds.len() as u32).to_le_bytes());
        out.extend((self.runs.len() as u32).to_le_bytes());
        for (id, stored_bytes) in &self.builds {
            out.extend(id.as_bytes());
            out.extend([0; 4]);
            out.extend(stored_bytes.to_le_bytes());
        }
        for (first, blocks, build, offset) in &self.runs {
            out.extend(first.to_le_bytes());
            out.extend(blocks.to_le_bytes());
            out.extend(build.to_le_bytes());
            out.extend([0; 4]);
            out.extend(offset.to_le_bytes());
        }
        sealed(out)
    }

    pub fn json(&self) -> Value {
        let builds = self.builds.iter().map(|(id, bytes)| json!({ "id": id, "storedBytes": bytes }));
        let runs = self.runs.iter().map(|(first, blocks, build, offset)| {
            let build = if *build == ZERO { Value::Null } else { json!(build) };
            json!({ "first": first, "blocks": blocks, "build": build, "offset": offset })
        });
        json!({
            "generation": self.generation,
            "memoryBytes": self.memory_bytes,
            "builds": builds.collect::<Vec<_>>(),
            "runs": runs.collect::<Vec<_>>(),
        })
    }
}

pub fn sums(of: &[u32]) -> Vec<u8> {
    let mut out = b"WRNMEMS1".to_vec();
    out.extend((of.len() as u64).to_le_bytes());
    out.extend(of.iter().flat_map(|sum| sum.to_le_bytes()));
    sealed(out)
}

pub fn working_set(blocks: &[u32]) -> Vec<u8> {
    let mut out = b"WRNWSET1".to_vec();
    out.extend((blocks.len() as u32).to_le_bytes());
    out.extend(blocks.iter().flat_map(|block| block.to_le_bytes()));
    sealed(out)
}

/// With the CRC-32 behind it.
pub fn sealed(mut content: Vec<u8>) -> Vec<u8> {
    content.extend(crc32(&content).to_le_bytes());
    content
}

/// Bit by bit, as the document names it.
pub fn crc32(content: &[u8]) -> u32 {
    !content.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1)))
    })
}

pub fn snapshot_id(name: &str) -> String {
    format!("sn-{name:0>25}")
}

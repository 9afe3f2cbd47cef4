//! `memfile.header`: where each block of a snapshot's memory lies.
//! Holds after reading: the runs cover the memory once and in order, and none points past its build's stored bytes.

use super::bytes::Bytes;
use super::{BLOCK_BYTES, Malformed};

const MAGIC: &[u8; 8] = b"WRNMEMH1";
const FIXED_BYTES: usize = 32;
const BUILD_BYTES: usize = 40;
const RUN_BYTES: usize = 24;
const ID_BYTES: usize = 28;
const MOST_MEMORY_BYTES: u64 = 1 << 40;
const MOST_BUILDS: u32 = 64;
const MOST_RUNS: u32 = 1 << 22;
const ZERO: u32 = 0xFFFF_FFFF;

pub const MOST_BYTES: u64 =
    (FIXED_BYTES + BUILD_BYTES * MOST_BUILDS as usize + RUN_BYTES * MOST_RUNS as usize + 4) as u64;

#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub generation: u32,
    pub blocks: u32,
    pub builds: Vec<Build>,
    pub runs: Vec<Run>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Build {
    pub id: String,
    pub stored_bytes: u64,
}

/// Neighbouring blocks that lie one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub first: u32,
    pub blocks: u32,
    pub place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Zero,
    Stored { build: u32, offset: u64 },
}

impl Run {
    pub fn end(&self) -> u32 {
        self.first + self.blocks
    }

    /// Where a block of this run lies.
    pub fn place_of(&self, block: u32) -> Place {
        match self.place {
            Place::Zero => Place::Zero,
            Place::Stored { build, offset } => {
                Place::Stored { build, offset: offset + u64::from(block - self.first) * BLOCK_BYTES }
            }
        }
    }
}

impl Header {
    pub fn read(content: &[u8]) -> Result<Header, Malformed> {
        let mut bytes = Bytes::checked(content, MAGIC)?;
        let block_bytes = bytes.u32()?;
        demand(u64::from(block_bytes) == BLOCK_BYTES, || format!("blocks of {block_bytes} bytes"))?;
        let generation = bytes.u32()?;
        let memory_bytes = bytes.u64()?;
        demand(memory_bytes % BLOCK_BYTES == 0 && (BLOCK_BYTES..=MOST_MEMORY_BYTES).contains(&memory_bytes), || {
            format!("{memory_bytes} bytes of memory")
        })?;
        let blocks = (memory_bytes / BLOCK_BYTES) as u32;
        let (builds, runs) = (bytes.u32()?, bytes.u32()?);
        demand((1..=MOST_BUILDS).contains(&builds), || format!("{builds} builds"))?;
        demand((1..=MOST_RUNS).contains(&runs), || format!("{runs} runs"))?;
        let (builds, runs) = (builds as usize, runs as usize);
        demand(bytes.left() == builds * BUILD_BYTES + runs * RUN_BYTES, || {
            format!("{} bytes do not hold {builds} builds and {runs} runs", content.len())
        })?;
        let builds = (0..builds).map(|_| read_build(&mut bytes)).collect::<Result<Vec<_>, _>>()?;
        let runs = read_runs(&mut bytes, runs, &builds)?;
        let end = runs.last().map_or(0, Run::end);
        demand(end == blocks, || format!("its runs cover {end} of {blocks} blocks"))?;
        Ok(Header { generation, blocks, builds, runs })
    }

    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK_BYTES
    }

    /// The run that holds a block of the memory.
    pub fn run_of(&self, block: u32) -> &Run {
        &self.runs[self.runs.partition_point(|run| run.first <= block) - 1]
    }
}

fn read_build(bytes: &mut Bytes<'_>) -> Result<Build, Malformed> {
    let id = bytes.take(ID_BYTES)?;
    demand(id.iter().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-')), || {
        format!("a build with the id \"{}\"", id.escape_ascii())
    })?;
    demand(bytes.u32()? == 0, || "a build with a reserved field in use".to_owned())?;
    let stored_bytes = bytes.u64()?;
    demand(stored_bytes % BLOCK_BYTES == 0, || format!("a build of {stored_bytes} stored bytes"))?;
    Ok(Build { id: String::from_utf8_lossy(id).into_owned(), stored_bytes })
}

fn read_runs(bytes: &mut Bytes<'_>, count: usize, builds: &[Build]) -> Result<Vec<Run>, Malformed> {
    let mut runs: Vec<Run> = Vec::with_capacity(count);
    for index in 0..count {
        let run = read_run(bytes, builds).map_err(|rule| Malformed(format!("run {index}: {rule}")))?;
        let end = runs.last().map_or(0, Run::end);
        demand(run.first == end, || format!("run {index}: begins at block {}, not {end}", run.first))?;
        let joins = runs.last().is_some_and(|before| before.place_of(before.end()) == run.place);
        demand(!joins, || format!("run {index}: only goes on with the one before"))?;
        runs.push(run);
    }
    Ok(runs)
}

fn read_run(bytes: &mut Bytes<'_>, builds: &[Build]) -> Result<Run, Malformed> {
    let (first, blocks, build, reserved) = (bytes.u32()?, bytes.u32()?, bytes.u32()?, bytes.u32()?);
    let offset = bytes.u64()?;
    demand(blocks > 0 && first.checked_add(blocks).is_some(), || format!("{blocks} blocks at {first}"))?;
    demand(reserved == 0, || "a reserved field in use".to_owned())?;
    if build == ZERO {
        demand(offset == 0, || format!("zero blocks with offset {offset}"))?;
        return Ok(Run { first, blocks, place: Place::Zero });
    }
    let Some(Build { stored_bytes, .. }) = builds.get(build as usize) else {
        return Err(Malformed(format!("build {build} of {}", builds.len())));
    };
    demand(offset % BLOCK_BYTES == 0, || format!("offset {offset}"))?;
    let end = offset.checked_add(u64::from(blocks) * BLOCK_BYTES);
    demand(end.is_some_and(|end| end <= *stored_bytes), || {
        format!("{blocks} blocks at offset {offset} of a build of {stored_bytes} bytes")
    })?;
    Ok(Run { first, blocks, place: Place::Stored { build, offset } })
}

fn demand(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Malformed> {
    if holds { Ok(()) } else { Err(Malformed(otherwise())) }
}

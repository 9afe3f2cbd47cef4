//! Snapshots of memory that is known: what a reader must find, beside the files it finds it in.

use super::encode::{self, Header, ZERO, crc32, snapshot_id};
use super::place::Place;
use super::process::Passed;
use super::random::Random;
use std::fs::{self, File};
use std::path::PathBuf;

const BLOCK: usize = 4096;

pub struct Snapshot {
    pub place: Place,
    pub memory: Vec<u8>,
    pub header: Header,
    pub runs: usize,
}

struct Build {
    id: String,
    stored: Vec<u8>,
}

impl Snapshot {
    /// A chain of generations: each writes some blocks and zeroes some.
    pub fn chain(seed: u64, blocks: usize, generations: usize) -> Snapshot {
        let mut random = Random::new(seed);
        let mut memory = vec![0u8; blocks * BLOCK];
        // Where each block lies: its build, counted from the oldest, and the offset there.
        let mut places: Vec<Option<(usize, u64)>> = vec![None; blocks];
        let mut builds: Vec<Build> = Vec::new();
        for generation in 0..generations {
            let mut stored = Vec::new();
            let mut at = 0;
            while at < blocks {
                let stretch = (1 + random.below(40) as usize).min(blocks - at);
                let kind = random.below(if generation == 0 { 3 } else { 6 });
                for block in at..at + stretch {
                    match kind {
                        0 => {
                            memory[block * BLOCK..][..BLOCK].fill(0);
                            places[block] = None;
                        }
                        1 | 2 => {
                            let content = random.block();
                            memory[block * BLOCK..][..BLOCK].copy_from_slice(&content);
                            places[block] = Some((generation, stored.len() as u64));
                            stored.extend(content);
                        }
                        _ => {}
                    }
                }
                at += stretch;
            }
            builds.push(Build { id: snapshot_id(&format!("g{generation}")), stored });
        }
        Snapshot::of(memory, &places, builds)
    }

    /// One build that stores everything.
    pub fn full(seed: u64, blocks: usize) -> Snapshot {
        let mut random = Random::new(seed);
        let memory: Vec<u8> = (0..blocks).flat_map(|_| random.block()).collect();
        let places: Vec<_> = (0..blocks).map(|block| Some((0, (block * BLOCK) as u64))).collect();
        let build = Build { id: snapshot_id("g0"), stored: memory.clone() };
        Snapshot::of(memory, &places, vec![build])
    }

    /// Nothing but zero blocks.
    pub fn zeros(blocks: usize) -> Snapshot {
        let build = Build { id: snapshot_id("g0"), stored: Vec::new() };
        Snapshot::of(vec![0; blocks * BLOCK], &vec![None; blocks], vec![build])
    }

    /// So many runs of one block.
    pub fn in_runs(runs: usize) -> Snapshot {
        let build = Build { id: snapshot_id("g0"), stored: vec![1; BLOCK] };
        let places: Vec<_> = (0..runs).map(|block| (block % 2 == 0).then_some((0, 0))).collect();
        let memory = (0..runs).flat_map(|block| vec![(block % 2 == 0).into(); BLOCK]).collect();
        Snapshot::of(memory, &places, vec![build])
    }

    fn of(memory: Vec<u8>, places: &[Option<(usize, u64)>], builds: Vec<Build>) -> Snapshot {
        let place = Place::new();
        let newest = builds.len() - 1;
        let mut runs: Vec<(u32, u32, u32, u64)> = Vec::new();
        for (block, at) in places.iter().enumerate() {
            let (build, offset) = at.map_or((ZERO, 0), |(build, offset)| ((newest - build) as u32, offset));
            match runs.last_mut() {
                Some((_, count, before, at))
                    if *before == build && (build == ZERO || *at + u64::from(*count) * BLOCK as u64 == offset) =>
                {
                    *count += 1;
                }
                _ => runs.push((block as u32, 1, build, offset)),
            }
        }
        let header = Header {
            block_bytes: BLOCK as u32,
            generation: newest as u32,
            memory_bytes: memory.len() as u64,
            builds: builds.iter().rev().map(|build| (build.id.clone(), build.stored.len() as u64)).collect(),
            runs,
        };
        for build in &builds {
            fs::write(place.at(&format!("memfile.{}", build.id)), &build.stored).unwrap();
            let sums: Vec<u32> = build.stored.chunks(BLOCK).map(crc32fast::hash).collect();
            fs::write(place.at(&format!("memfile.{}.sums", build.id)), encode::sums(&sums)).unwrap();
        }
        fs::write(place.at("memfile.header"), header.bytes()).unwrap();
        Snapshot { place, memory, runs: header.runs.len(), header }
    }

    pub fn blocks(&self) -> usize {
        self.memory.len() / BLOCK
    }

    pub fn bytes(&self) -> u64 {
        self.memory.len() as u64
    }

    pub fn sum(&self, first: usize, count: usize) -> String {
        crc32fast::hash(&self.memory[first * BLOCK..(first + count) * BLOCK]).to_string()
    }

    /// The newest build is 0.
    pub fn memfile(&self, build: usize) -> PathBuf {
        self.place.at(&format!("memfile.{}", self.header.builds[build].0))
    }

    pub fn sums(&self, build: usize) -> PathBuf {
        self.place.at(&format!("memfile.{}.sums", self.header.builds[build].0))
    }

    pub fn open(&self, name: &str) -> File {
        File::open(self.place.at(name)).unwrap()
    }

    /// `FD:SUMS_FD` of each build.
    pub fn pass_files(&self, passed: &mut Passed) -> Vec<String> {
        let pass = |passed: &mut Passed, path| passed.pass(File::open(path).unwrap());
        (0..self.header.builds.len())
            .map(|build| format!("{}:{}", pass(passed, self.memfile(build)), pass(passed, self.sums(build))))
            .collect()
    }

    /// Some block that a build stores, and its offset there.
    pub fn stored_block(&self, build: u32) -> (usize, u64) {
        let run = self.header.runs.iter().find(|run| run.2 == build).unwrap();
        (run.0 as usize, run.3)
    }

    /// The test's own CRC is the one that the files have.
    pub fn check_sums(&self) {
        let stored = fs::read(self.memfile(0)).unwrap();
        let sums: Vec<u32> = stored.chunks(BLOCK).take(4).map(crc32).collect();
        assert_eq!(encode::sums(&sums)[16..32], fs::read(self.sums(0)).unwrap()[16..32]);
    }
}

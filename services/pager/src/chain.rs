//! A snapshot's memory: its header and the files of its builds, each block verified as it is read.
//! Read with pread, not mapped: a file that is truncated meanwhile is then an error, not a SIGBUS.

use crate::format::header::{self, Header, Place};
use crate::format::{BLOCK, BLOCK_BYTES, Malformed, read_all, sums};
use std::fs::File;
use std::os::unix::fs::FileExt;

pub struct Chain {
    header: Header,
    builds: Vec<BuildFile>,
}

struct BuildFile {
    name: String,
    file: File,
    sums: Option<Vec<u32>>,
}

impl Chain {
    /// The files in the header's order, each with its sums if it has them.
    pub fn open(header: &File, files: Vec<(File, Option<File>)>) -> Result<Chain, Malformed> {
        let header = read_all(header, header::MOST_BYTES)
            .and_then(|content| Header::read(&content))
            .map_err(|why| Malformed(format!("memfile.header: {why}")))?;
        if files.len() != header.builds.len() {
            return Err(Malformed(format!("{} files for {} builds", files.len(), header.builds.len())));
        }
        let mut builds = Vec::with_capacity(files.len());
        for (build, (file, sums)) in header.builds.iter().zip(files) {
            let name = format!("memfile.{}", build.id);
            let size = file.metadata().map_err(Malformed::from)?.len();
            if size != build.stored_bytes {
                return Err(Malformed(format!("{name}: {size} bytes, not {}", build.stored_bytes)));
            }
            let sums = match sums {
                Some(sums) => {
                    Some(read_sums(&sums, build.stored_bytes).map_err(|why| Malformed(format!("{name}.sums: {why}")))?)
                }
                None => None,
            };
            builds.push(BuildFile { name, file, sums });
        }
        Ok(Chain { header, builds })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The stored content of blocks that lie in one run of the header.
    pub fn read(&self, first: u32, content: &mut [u8]) -> Result<(), Malformed> {
        let Place::Stored { build, offset } = self.header.run_of(first).place_of(first) else {
            content.fill(0);
            return Ok(());
        };
        let build = &self.builds[build as usize];
        build.file.read_exact_at(content, offset).map_err(|error| {
            Malformed(format!("{}: {} bytes at {offset} cannot be read: {error}", build.name, content.len()))
        })?;
        let Some(sums) = &build.sums else { return Ok(()) };
        let index = (offset / BLOCK_BYTES) as usize;
        for (index, block) in (index..).zip(content.chunks_exact(BLOCK)) {
            if crc32fast::hash(block) != sums[index] {
                let at = index * BLOCK;
                return Err(Malformed(format!("{}: the block at {at} is not what its checksum says", build.name)));
            }
        }
        Ok(())
    }
}

fn read_sums(file: &File, stored_bytes: u64) -> Result<Vec<u32>, Malformed> {
    let sums = sums::read(&read_all(file, sums::file_bytes(stored_bytes))?)?;
    if sums.len() as u64 != stored_bytes / BLOCK_BYTES {
        return Err(Malformed(format!("{} checksums for {stored_bytes} bytes", sums.len())));
    }
    Ok(sums)
}

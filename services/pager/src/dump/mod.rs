//! `wrenn-pager dump`: the pages of a stopped VM that the guest changed, each at its own offset of a sparse file.

mod scan;

use crate::format::{BLOCK, BLOCK_BYTES};
pub use scan::Scanner;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

const BUFFER_BLOCKS: u64 = 256;

pub struct Dumped {
    pub pid: u32,
    pub address: u64,
    pub bytes: u64,
    pub out: PathBuf,
}

/// Returns how many pages it wrote.
pub fn dump(dumped: &Dumped, scanner: Scanner) -> io::Result<u64> {
    let Dumped { pid, address, bytes, out } = dumped;
    if (address | bytes) % BLOCK_BYTES != 0 || *bytes == 0 || address.checked_add(*bytes).is_none() {
        return Err(io::Error::other(format!("{bytes} bytes at {address:#x} are no pages")));
    }
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let ranges = scanner.changed(*pid, *address, *bytes)?;
    let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(out)?;
    out.set_len(*bytes)?;
    let mut buffer = vec![0; BUFFER_BLOCKS as usize * BLOCK];
    let mut pages = 0;
    for (start, end) in ranges {
        for at in (start..end).step_by(buffer.len()) {
            let part = &mut buffer[..(end - at).min(BUFFER_BLOCKS * BLOCK_BYTES) as usize];
            memory.read_exact_at(part, at)?;
            // A page that the guest zeroed is written too: it is a change.
            out.write_all_at(part, at - address)?;
        }
        pages += (end - start) / BLOCK_BYTES;
    }
    Ok(pages)
}

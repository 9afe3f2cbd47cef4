//! `wrenn-pager dump`: the pages of a stopped VM that the guest changed, each at its own offset of a sparse file.

mod scan;

use crate::format::{BLOCK, BLOCK_BYTES};
use scan::Scan;
pub use scan::Scanner;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

const BUFFER_BLOCKS: u64 = 256;

pub struct Dumped {
    pub pid: u32,
    pub address: u64,
    pub bytes: u64,
    pub out: PathBuf,
}

/// Dumps at the word, which is any byte. `None` when whoever might have given it has left.
pub fn dump_at_word(dumped: &Dumped, mut word: impl Read) -> io::Result<Option<u64>> {
    let dump = Dump::ready(dumped, Scanner::Best)?;
    match word.read(&mut [0])? {
        0 => Ok(None),
        _ => dump.write().map(Some),
    }
}

/// All that can be done while the VM runs is done: it stands still for the rest alone.
pub struct Dump {
    address: u64,
    bytes: u64,
    memory: File,
    scan: Scan,
    out: File,
}

impl Dump {
    pub fn ready(dumped: &Dumped, scanner: Scanner) -> io::Result<Dump> {
        let Dumped { pid, address, bytes, ref out } = *dumped;
        if (address | bytes) % BLOCK_BYTES != 0 || bytes == 0 || address.checked_add(bytes).is_none() {
            return Err(io::Error::other(format!("{bytes} bytes at {address:#x} are no pages")));
        }
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let scan = Scan::open(pid, scanner)?;
        let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(out)?;
        out.set_len(bytes)?;
        Ok(Dump { address, bytes, memory, scan, out })
    }

    /// Returns how many pages it wrote.
    pub fn write(self) -> io::Result<u64> {
        let Dump { address, bytes, memory, scan, out } = self;
        let mut buffer = vec![0; BUFFER_BLOCKS as usize * BLOCK];
        let mut pages = 0;
        for (start, end) in scan.changed(address, bytes)? {
            for at in (start..end).step_by(buffer.len()) {
                let part = &mut buffer[..(end - at).min(BUFFER_BLOCKS * BLOCK_BYTES) as usize];
                memory.read_exact_at(part, at)?;
                // A page that the guest zeroed is written too: it is a change.
                out.write_all_at(part, at - address)?;
            }
            pages += (end - start) / BLOCK_BYTES;
        }
        // A VM that has ended has changed nothing, as the kernel tells it. One whose memory is there now had it all along.
        memory.read_exact_at(&mut buffer[..1], address)?;
        Ok(pages)
    }
}

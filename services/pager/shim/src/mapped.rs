//! `map`: each run of the header becomes a private mapping at its place.

use crate::ram;
use crate::settings::Map;
use std::ffi::{c_int, c_void};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use wrenn_pager::format::header::{self, Header, Place};
use wrenn_pager::format::{BLOCK_BYTES, read_all};

/// A process may have 65,530 mappings, and QEMU needs some.
const MOST_RUNS: usize = 32_768;

pub fn take_over(map: Map, address: u64, len: u64, prot: c_int) -> Result<(), String> {
    let content = read_all(&map.header, header::MOST_BYTES).map_err(|why| format!("memfile.header: {why}"))?;
    let header = Header::read(&content).map_err(|why| format!("memfile.header: {why}"))?;
    check(&header, &map, len)?;
    no_huge_pages()?;
    for run in &header.runs {
        let at = (address + u64::from(run.first) * BLOCK_BYTES) as *mut c_void;
        let bytes = u64::from(run.blocks) * BLOCK_BYTES;
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let (flags, fd, offset) = match run.place {
            Place::Zero => (flags | libc::MAP_ANONYMOUS, -1, 0),
            Place::Stored { build, offset } => (flags, map.files[build as usize].as_raw_fd(), offset),
        };
        // SAFETY: the runs lie within the mapping that was just made, of which nobody knows yet.
        let mapped = unsafe { ram::map(at, bytes as usize, prot, flags, fd, offset as i64) };
        if mapped != at {
            return Err(format!("{bytes} bytes at block {}: {}", run.first, io::Error::last_os_error()));
        }
    }
    report(&map, address).map_err(|error| format!("{}: {error}", map.report.display()))
}

fn check(header: &Header, map: &Map, len: u64) -> Result<(), String> {
    if header.memory_bytes() != len {
        return Err(format!("a snapshot of {} bytes for {len} bytes of memory", header.memory_bytes()));
    }
    if header.runs.len() > MOST_RUNS {
        return Err(format!("{} runs are more mappings than a process may have", header.runs.len()));
    }
    if map.files.len() != header.builds.len() {
        return Err(format!("{} files for {} builds", map.files.len(), header.builds.len()));
    }
    for (build, file) in header.builds.iter().zip(&map.files) {
        let size = file.metadata().map_err(|error| format!("memfile.{}: {error}", build.id))?.len();
        // Else a guest would die of SIGBUS later, for no reason that anybody can see.
        if size != build.stored_bytes {
            return Err(format!("memfile.{}: {size} bytes, not {}", build.id, build.stored_bytes));
        }
    }
    Ok(())
}

/// QEMU asks for them. One byte written would make 2 MiB of changed memory.
fn no_huge_pages() -> Result<(), String> {
    // SAFETY: the call takes numbers.
    match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(format!("huge pages cannot be switched off: {}", io::Error::last_os_error())),
    }
}

/// In one write, so that whoever sees the newline sees the address.
fn report(map: &Map, address: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&map.report)?;
    file.write_all(format!("{address:x}\n").as_bytes())
}

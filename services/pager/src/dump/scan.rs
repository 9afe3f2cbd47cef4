//! Which pages of private mappings are no longer the file's: anonymous pages, in memory or swapped out.

use crate::format::BLOCK_BYTES;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// `PAGEMAP_SCAN` of linux/fs.h, since Linux 6.7.
const PAGEMAP_SCAN: libc::Ioctl = 0xC060_6610;
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_ZERO_PAGE: u64 = 1 << 5;

#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// Bits of an entry of `/proc/PID/pagemap`.
const ENTRY_PRESENT: u64 = 1 << 63;
const ENTRY_SWAPPED: u64 = 1 << 62;
const ENTRY_FILE: u64 = 1 << 61;

const REGIONS_AT_ONCE: usize = 1024;
const ENTRIES_AT_ONCE: usize = 8192;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scanner {
    /// PAGEMAP_SCAN where the kernel has it.
    Best,
    /// Entry by entry. Takes pages that were only read from a zero run for changed ones: they cost space, no more.
    Pagemap,
}

pub struct Scan {
    pagemap: File,
    scanner: Scanner,
}

impl Scan {
    pub fn open(pid: u32, scanner: Scanner) -> io::Result<Scan> {
        Ok(Scan { pagemap: File::open(format!("/proc/{pid}/pagemap"))?, scanner })
    }

    /// Start and end of each stretch of changed pages, in order.
    pub fn changed(&self, address: u64, bytes: u64) -> io::Result<Vec<(u64, u64)>> {
        if self.scanner == Scanner::Best {
            match scan(&self.pagemap, address, address + bytes) {
                Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => {}
                done => return done,
            }
        }
        read_entries(&self.pagemap, address, bytes)
    }
}

fn scan(pagemap: &File, mut start: u64, end: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    while start < end {
        let mut regions = [PageRegion::default(); REGIONS_AT_ONCE];
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start,
            end,
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            category_inverted: IS_FILE | IS_ZERO_PAGE,
            category_mask: IS_FILE | IS_ZERO_PAGE,
            category_anyof_mask: IS_PRESENT | IS_SWAPPED,
            return_mask: IS_FILE,
            ..ScanArg::default()
        };
        // SAFETY: the struct is the one of this request, and names an array of so many regions.
        let count = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        let Ok(count) = usize::try_from(count) else { return Err(io::Error::last_os_error()) };
        found.extend(regions[..count].iter().map(|region| (region.start, region.end)));
        if arg.walk_end <= start {
            return Err(io::Error::other("PAGEMAP_SCAN stands still"));
        }
        start = arg.walk_end;
    }
    Ok(found)
}

fn read_entries(pagemap: &File, address: u64, bytes: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    let (first, count) = (address / BLOCK_BYTES, (bytes / BLOCK_BYTES) as usize);
    for begin in (0..count).step_by(ENTRIES_AT_ONCE) {
        let mut entries = vec![0; (count - begin).min(ENTRIES_AT_ONCE) * 8];
        pagemap.read_exact_at(&mut entries, (first + begin as u64) * 8)?;
        for (index, entry) in (begin as u64..).zip(entries.as_chunks().0) {
            let entry = u64::from_le_bytes(*entry);
            if entry & (ENTRY_PRESENT | ENTRY_SWAPPED) == 0 || entry & ENTRY_FILE != 0 {
                continue;
            }
            let start = address + index * BLOCK_BYTES;
            match found.last_mut() {
                Some((_, end)) if *end == start => *end += BLOCK_BYTES,
                _ => found.push((start, start + BLOCK_BYTES)),
            }
        }
    }
    Ok(found)
}

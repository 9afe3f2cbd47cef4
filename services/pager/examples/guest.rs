//! A stand-in for a VMM in the tests and figures: maps memory, and does with it what the lines on its stdin say.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use std::{env, slice, thread};
use wrenn_pager::descriptors::take;
use wrenn_pager::format::BLOCK;
use wrenn_pager::handshake;
use wrenn_pager::regions::Region;
use wrenn_pager::serve::{send, send_handshake};
use wrenn_pager::uffd::{EVENT_REMOVE_FEATURE, Uffd};

type Done<T> = Result<T, Box<dyn Error>>;

/// Guest memory in one or more mappings, in the order of its blocks.
struct Memory(Vec<(usize, usize)>);

impl Memory {
    fn block(&self, index: usize) -> *mut u8 {
        let mut at = index * BLOCK;
        for (address, bytes) in &self.0 {
            if at < *bytes {
                return (address + at) as *mut u8;
            }
            at -= bytes;
        }
        std::ptr::null_mut()
    }

    fn bytes(&self, index: usize) -> &[u8] {
        // SAFETY: `block` lies in a mapping that stays, or is null, which the tests do not ask for.
        unsafe { slice::from_raw_parts(self.block(index), BLOCK) }
    }

    fn blocks(&self) -> usize {
        self.0.iter().map(|(_, bytes)| bytes / BLOCK).sum()
    }
}

fn map(bytes: usize, flags: i32, fd: i32) -> Done<usize> {
    // SAFETY: a new mapping, wherever the kernel puts it.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error().into()) } else { Ok(at as usize) }
}

fn of_file(path: &str, bytes: usize, flags: i32) -> Done<Memory> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    Ok(Memory(vec![(map(bytes, flags, file.as_raw_fd())?, bytes)]))
}

/// As Firecracker does it: private memory in two regions, and it says which pages it gives back.
fn as_firecracker(socket: &str, bytes: &str, device: &str) -> Done<Memory> {
    let uffd = Uffd::from_device(take(device)?.as_fd(), EVENT_REMOVE_FEATURE)?;
    let bytes: usize = bytes.parse()?;
    let low = bytes / BLOCK / 3 * BLOCK;
    let (mut mappings, mut regions, mut offset) = (Vec::new(), Vec::new(), 0);
    for size in [low, bytes - low] {
        let address = map(size, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
        uffd.register_missing(address as u64, size as u64)?;
        regions.push(Region { address: address as u64, bytes: size as u64, offset });
        offset += size as u64;
        mappings.push((address, size));
    }
    send_handshake(Path::new(socket), &regions, &uffd)?;
    std::mem::forget(uffd);
    Ok(Memory(mappings))
}

/// Says what it is told, with so many descriptors beside it, and then nothing more.
fn say(socket: &str, device: &str, count: &str, said: &str) -> Done<Memory> {
    let device = take(device)?;
    let uffd = Uffd::from_device(device.as_fd(), 0);
    // A descriptor that is none of userfaultfd's is passed as it is.
    let fd = uffd.as_ref().map_or(device.as_fd(), AsFd::as_fd);
    let stream = UnixStream::connect(socket)?;
    send(&stream, said.as_bytes(), &vec![fd; count.parse()?])?;
    std::mem::forget(stream);
    Ok(Memory(Vec::new()))
}

/// The handshake byte by byte.
fn in_pieces(socket: &str, bytes: &str, device: &str) -> Done<Memory> {
    let uffd = Uffd::from_device(take(device)?.as_fd(), 0)?;
    let size: usize = bytes.parse()?;
    let address = map(size, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    uffd.register_missing(address as u64, size as u64)?;
    let stream = UnixStream::connect(socket)?;
    let region = Region { address: address as u64, bytes: size as u64, offset: 0 };
    for (index, byte) in handshake::write(&[region]).iter().enumerate() {
        let passed = [uffd.as_fd()];
        send(&stream, &[*byte], if index == 0 { &passed } else { &[] })?;
    }
    std::mem::forget(uffd);
    Ok(Memory(vec![(address, size)]))
}

fn sum(memory: &Memory, first: usize, count: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for index in first..first + count {
        hasher.update(memory.bytes(index));
    }
    hasher.finalize()
}

/// Each thread reads all blocks in an order of its own. One sum, if all of them saw the same.
fn in_threads(memory: &Arc<Memory>, count: usize) -> Done<String> {
    let threads: Vec<_> = (0..count)
        .map(|thread| {
            let memory = Arc::clone(memory);
            thread::spawn(move || {
                let blocks = memory.blocks();
                for step in 0..blocks {
                    let _ = memory.bytes((step * (2 * thread + 1) + thread * 977) % blocks)[step % BLOCK];
                }
                sum(&memory, 0, blocks)
            })
        })
        .collect();
    let mut sums = BTreeSet::new();
    for thread in threads {
        sums.insert(thread.join().map_err(|_| "a thread died")?);
    }
    Ok(sums.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
}

fn through_the_kernel(memory: &Memory, index: usize) -> Done<u32> {
    let (read, write) = {
        let mut ends = [0; 2];
        // SAFETY: two descriptors are written into an array of two.
        if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error().into());
        }
        (ends[0], ends[1])
    };
    let mut back = vec![0u8; BLOCK];
    // SAFETY: the kernel reads a block of the guest's memory and writes a buffer of that size.
    let moved = unsafe {
        libc::write(write, memory.block(index).cast(), BLOCK);
        libc::read(read, back.as_mut_ptr().cast(), BLOCK)
    };
    assert_eq!(moved, BLOCK as isize);
    Ok(crc32fast::hash(&back))
}

/// Nanoseconds a touch, each on another page.
fn time(memory: &Memory, order: &str, count: usize) -> u128 {
    let blocks = memory.blocks();
    let step = if order == "random" { 7919 } else { 1 };
    let begun = Instant::now();
    let mut seen = 0u8;
    for index in 0..count {
        // SAFETY: a byte of a mapping that stays; volatile, as nobody uses it.
        seen ^= unsafe { memory.block(index * step % blocks).read_volatile() };
    }
    std::hint::black_box(seen);
    begun.elapsed().as_nanos() / count as u128
}

fn answer(memory: &Arc<Memory>, words: &[&str]) -> Done<String> {
    Ok(match words {
        ["sum", first, count] => sum(memory, first.parse()?, count.parse()?).to_string(),
        ["write", block, byte] => {
            // SAFETY: a block of a mapping that stays; no other thread runs.
            unsafe { memory.block(block.parse()?).write_bytes(byte.parse()?, BLOCK) };
            "done".to_owned()
        }
        ["threads", count] => in_threads(memory, count.parse()?)?,
        ["kernel", block] => through_the_kernel(memory, block.parse()?)?.to_string(),
        ["time", order, count] => time(memory, order, count.parse()?).to_string(),
        ["remove", first, count] => {
            let (first, count): (usize, usize) = (first.parse()?, count.parse()?);
            // SAFETY: the blocks' content goes, which the test wants.
            unsafe { libc::madvise(memory.block(first).cast(), count * BLOCK, libc::MADV_DONTNEED) };
            "done".to_owned()
        }
        ["huge"] => {
            let bytes = memory.blocks() * BLOCK;
            // SAFETY: advice on a mapping that stays.
            unsafe { libc::madvise(memory.block(0).cast(), bytes, libc::MADV_HUGEPAGE) };
            "done".to_owned()
        }
        ["environment"] => {
            let ours = |name: &str| name == "LD_PRELOAD" || name.starts_with("WRENN_SHIM");
            env::vars().map(|(name, _)| name).filter(|name| ours(name)).collect::<Vec<_>>().join(" ")
        }
        other => return Err(format!("{other:?} is not known").into()),
    })
}

fn main() -> Done<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let memory = match words.as_slice() {
        ["shared", path, bytes] => of_file(path, bytes.parse()?, libc::MAP_SHARED)?,
        ["half", path, bytes] => of_file(path, bytes.parse::<usize>()? / 2, libc::MAP_SHARED)?,
        ["private", path, bytes] => of_file(path, bytes.parse()?, libc::MAP_PRIVATE)?,
        ["firecracker", socket, bytes, device] => as_firecracker(socket, bytes, device)?,
        ["say", socket, device, count, said] => say(socket, device, count, said)?,
        ["pieces", socket, bytes, device] => in_pieces(socket, bytes, device)?,
        other => return Err(format!("{other:?} is not known").into()),
    };
    let memory = Arc::new(memory);
    for line in io::stdin().lock().lines() {
        let line = line?;
        let answer = answer(&memory, &line.split(' ').collect::<Vec<_>>())?;
        writeln!(io::stdout(), "{answer}")?;
    }
    Ok(())
}

//! Opening a file for its content: regular files only, so that no pipe, device or socket is woken or waited
//! for, and nothing behind the agent's own /proc/self.

use super::failure;
use crate::fault::{Fault, Outcome, Reason};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

pub struct Content {
    pub file: File,
    /// None: the kernel makes it up as it is read.
    pub len: Option<u64>,
    /// Changes with the content.
    pub etag: String,
}

pub fn open(path: &Path) -> Outcome<Content> {
    let failed = |e: io::Error| failure(path, &e);
    // Looked at before it is opened for reading, which some devices take as an order.
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let found = File::from(openat2(AT_FDCWD, path, how).map_err(|e| absent_below_a_file(path, e.into()))?);
    let metadata = found.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(is_a_directory(path));
    }
    if !metadata.is_file() {
        return Err(Fault::new(Reason::BadPath, format!("{} is no regular file", path.display())));
    }
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(failed)?;
    let kind = fstatfs(&file).map_err(|e| failed(e.into()))?.filesystem_type();
    let is_made_up = [PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP2_SUPER_MAGIC].contains(&kind);
    let changed = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    let etag = format!("\"{:x}-{:x}-{changed:x}\"", metadata.ino(), metadata.len());
    Ok(Content { file, len: (!is_made_up).then_some(metadata.len()), etag })
}

/// Below a file there is nothing.
fn absent_below_a_file(path: &Path, error: io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotADirectory => failure(path, &io::Error::from_raw_os_error(libc::ENOENT)),
        _ => failure(path, &error),
    }
}

pub fn is_a_directory(path: &Path) -> Fault {
    Fault::new(Reason::IsADirectory, format!("{} is a directory", path.display()))
}

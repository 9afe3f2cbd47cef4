//! The operations on files and directories. Symbolic links are followed only where the last part of a path
//! is one and the caller looks at it; nothing is removed through a link.

use super::entry::{Names, describe, describe_as};
use super::failure;
use crate::fault::{Fault, Outcome, Reason};
use crate::proto::filesystem::EntryInfo;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

const DIR_MODE: u32 = 0o755;
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
pub const MAX_DEPTH: u32 = 64;
const MAX_ENTRIES: usize = 50_000;

/// Below a file there is nothing either.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

pub fn stat(path: &Path) -> Outcome<EntryInfo> {
    describe(path, &Names::read()).map_err(|e| match is_absent(&e) {
        true => Fault::new(Reason::PathNotFound, format!("{}: no such file or directory", path.display())),
        false => failure(path, &e),
    })
}

pub fn make_dir(path: &Path) -> Outcome<EntryInfo> {
    if let Some(parent) = path.parent() {
        make_all(parent)?;
    }
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Ok(()) => stat(path),
        Err(e) if e.kind() == ErrorKind::AlreadyExists && !path.is_dir() => {
            Err(Fault::new(Reason::NotADirectory, format!("{} exists and is no directory", path.display())))
        }
        Err(e) => Err(failure(path, &e)),
    }
}

/// A directory and its missing parents.
pub fn make_all(path: &Path) -> Outcome<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(path).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Fault::new(Reason::NotADirectory, format!("{} is no directory", path.display())),
        _ => failure(path, &e),
    })
}

pub fn move_entry(source: &Path, destination: &Path) -> Outcome<EntryInfo> {
    stat(source)?;
    if let Some(parent) = destination.parent() {
        make_all(parent)?;
    }
    fs::rename(source, destination).map_err(|e| match e.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ENOSPC) => failure(source, &e),
        // Another file system, a directory into itself, onto a directory that is not empty, a mount point.
        _ => Fault::new(Reason::MoveRefused, format!("{} cannot be moved there: {e}", source.display())),
    })?;
    stat(destination)
}

pub fn remove(path: &Path) -> Outcome<()> {
    let is_dir = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.is_dir(),
        Err(e) if is_absent(&e) => return Ok(()),
        Err(e) => return Err(failure(path, &e)),
    };
    if is_dir && fs::canonicalize(path).is_ok_and(|real| real == Path::new("/")) {
        return Err(Fault::new(Reason::BadPath, "the root directory is not to be removed"));
    }
    let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if !is_absent(&e) => Err(failure(path, &e)),
        _ => Ok(()),
    }
}

/// Sorted by path. Links to directories are listed, not entered, even if they come while it walks; a directory
/// below the first that the user may not read is listed without its contents.
pub fn list(path: &Path, depth: u32) -> Outcome<Vec<EntryInfo>> {
    let names = Names::read();
    let mut entries = Vec::new();
    let top = open(path, DIRECTORY, Mode::empty()).map_err(|e| failure(path, &e.into()))?;
    let mut level: Vec<PathBuf> = vec![PathBuf::new()];
    for depth in 0..depth {
        let mut deeper = Vec::new();
        for dir in level {
            // Its entries are looked at through what is open, whatever its name leads to by then.
            let opened = open_below(&top, &dir).and_then(|opened| Ok((fs::read_dir(through(&opened))?, opened)));
            let (listing, _opened) = match opened {
                Ok(opened) => opened,
                Err(e) if depth == 0 => return Err(failure(path, &e)),
                Err(_) => continue,
            };
            // What vanishes while it is listed is not there.
            for item in listing.flatten() {
                let relative = dir.join(item.file_name());
                let Ok(entry) = describe_as(&path.join(&relative), &item.path(), &names) else { continue };
                if entries.len() == MAX_ENTRIES {
                    let message = format!("{} holds more than {MAX_ENTRIES} entries", path.display());
                    return Err(Fault::new(Reason::TooManyEntries, message));
                }
                entries.push(entry);
                if item.file_type().is_ok_and(|t| t.is_dir()) {
                    deeper.push(relative);
                }
            }
        }
        level = deeper;
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

fn open_below(top: &OwnedFd, relative: &Path) -> io::Result<OwnedFd> {
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let how = OpenHow::new().flags(DIRECTORY).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(top, relative, how)?)
}

fn through(dir: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", dir.as_raw_fd()).into()
}

//! Descriptors that were passed in by number.

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

const FIRST_PASSED: RawFd = 3;

/// Takes over the descriptor that an argument names; each may be named once.
pub fn take(number: &str) -> Result<OwnedFd, String> {
    let fd: RawFd = number.parse().map_err(|_| format!("\"{number}\" is no descriptor"))?;
    // SAFETY: F_GETFD reads a flag of whatever descriptor that is.
    if fd < FIRST_PASSED || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(format!("descriptor {fd} was not passed"));
    }
    // SAFETY: it is open, and whoever started us passed it for this one use.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn take_file(number: &str) -> Result<File, String> {
    take(number).map(File::from)
}

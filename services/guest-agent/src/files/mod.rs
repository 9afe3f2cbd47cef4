//! Files of the guest, touched with the credentials of the user who asks.

pub mod content;
pub mod draft;
pub mod entry;
pub mod identity;
pub mod tree;
pub mod watch;
pub mod watchers;

use crate::fault::{Fault, Reason};
use nix::errno::Errno;
use std::io;
use std::path::Path;

/// What a failed system call on a path means to the caller.
pub fn failure(path: &Path, error: &io::Error) -> Fault {
    let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
    let reason = match errno {
        Errno::ENOENT => Reason::PathNotFound,
        Errno::EACCES | Errno::EPERM | Errno::EROFS => Reason::PathNotPermitted,
        Errno::ENOTDIR => Reason::NotADirectory,
        Errno::EISDIR => Reason::IsADirectory,
        Errno::EEXIST => Reason::PathExists,
        Errno::ENAMETOOLONG | Errno::ELOOP | Errno::EINVAL => Reason::BadPath,
        Errno::ENOSPC | Errno::EDQUOT => Reason::NoSpaceLeft,
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN => Reason::NoProcessLeft,
        _ => Reason::Internal,
    };
    Fault::new(reason, format!("{}: {}", path.display(), errno.desc()))
}

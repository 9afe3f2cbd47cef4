//! The VMM, held by a pidfd from its handshake on: a signal can reach no other process.

use super::fatal::Fatal;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Since Linux 6.5: the peer itself, not a number that may be another's by now.
const SO_PEERPIDFD: libc::c_int = 77;

pub struct Peer(OwnedFd);

impl Peer {
    pub fn of(stream: &UnixStream) -> Result<Peer, Fatal> {
        let fd = match option::<RawFd>(stream, SO_PEERPIDFD) {
            Ok(fd) => fd,
            Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
                let credentials = option::<libc::ucred>(stream, libc::SO_PEERCRED).map_err(gone)?;
                open(credentials.pid).map_err(gone)?
            }
            Err(error) => return Err(gone(error)),
        };
        // SAFETY: the kernel just made it for us.
        Ok(Peer(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn kill(&self) {
        // SAFETY: the call takes numbers and, for the siginfo, a null pointer that it allows.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), libc::SIGKILL, std::ptr::null::<u8>(), 0)
        };
        let error = io::Error::last_os_error();
        if sent != 0 && error.raw_os_error() != Some(libc::ESRCH) {
            eprintln!("wrenn-pager: the VM cannot be killed: {error}");
        }
    }

    pub fn again(&self) -> io::Result<Peer> {
        self.0.try_clone().map(Peer)
    }
}

/// Readable once the process has ended.
impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn gone(error: io::Error) -> Fatal {
    Fatal::handshake(format!("who sent it is not known: {error}"))
}

fn open(pid: libc::pid_t) -> io::Result<RawFd> {
    // SAFETY: the call takes two numbers.
    match unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } {
        fd if fd >= 0 => Ok(fd as RawFd),
        _ => Err(io::Error::last_os_error()),
    }
}

fn option<T>(stream: &UnixStream, name: libc::c_int) -> io::Result<T> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    let mut size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, and both types that are asked for are plain numbers.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, name, value.as_mut_ptr().cast(), &raw mut size)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed and then written by the kernel; any bits are a valid number.
    Ok(unsafe { value.assume_init() })
}

//! A pseudo-terminal's master side.

use crate::fault::{Fault, Outcome, Reason};
use crate::users::User;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, unlockpt};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use tokio::io::unix::AsyncFd;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub cols: u16,
    pub rows: u16,
}

impl Size {
    /// 0 means the usual 80 x 24.
    pub fn checked(cols: u32, rows: u32) -> Outcome<Self> {
        let cell = |n: u32, usual: u16| match n {
            0 => Ok(usual),
            n => u16::try_from(n).map_err(|_| Fault::new(Reason::BadPtySize, format!("{n} cells are more than 65535"))),
        };
        Ok(Self { cols: cell(cols, 80)?, rows: cell(rows, 24)? })
    }
}

pub struct Pty(AsyncFd<OwnedFd>);

impl Pty {
    /// A new terminal of that size, and its slave side, which belongs to the user.
    pub fn open(size: Size, user: &User) -> Outcome<(Self, OwnedFd)> {
        let broken = |e: Errno| match e {
            Errno::ENOSPC | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN => {
                Fault::new(Reason::NoProcessLeft, format!("the sandbox has no terminal left: {}", e.desc()))
            }
            _ => Fault::internal("open a terminal", e),
        };
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let master = posix_openpt(flags).map_err(broken)?;
        grantpt(&master).map_err(broken)?;
        unlockpt(&master).map_err(broken)?;
        let slave_flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: the ioctl takes flags by value and returns a new descriptor that nobody else owns.
        let slave = unsafe {
            let fd = libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, slave_flags);
            OwnedFd::from_raw_fd(Errno::result(fd).map_err(broken)?)
        };
        // Programs reopen their terminal by name, as that user.
        let _ = nix::unistd::fchown(&slave, Some(user.uid.into()), None);
        // SAFETY: PtyMaster is an OwnedFd inside; into_raw_fd gives up ownership of an open descriptor.
        let master = unsafe { OwnedFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(master)) };
        // SAFETY: the descriptor is open, and AsyncFd owns it until both go.
        let watched = unsafe { AsyncFd::register(master) };
        let pty = Self(watched.map_err(|e| Fault::internal("watch a terminal", e))?);
        pty.resize(size)?;
        Ok((pty, slave))
    }

    pub fn resize(&self, size: Size) -> Outcome<()> {
        let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads one winsize.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCSWINSZ, &size) })
            .map(drop)
            .map_err(|e| Fault::internal("resize a terminal", e))
    }

    /// All that is there, as far as it fits: the kernel gives 4 KiB at once. 0 bytes: every slave is closed.
    pub async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let has_hung_up = ready.ready().is_read_closed();
            match ready.try_io(|fd| nix::unistd::read(fd.get_ref(), buf).map_err(io::Error::from)) {
                // The kernel's way to say that the other side is gone.
                Ok(Err(e)) if e.raw_os_error() == Some(libc::EIO) => return Ok(0),
                Ok(Ok(n)) => return Ok(n + self.read_on(&mut buf[n..])),
                Ok(Err(e)) => return Err(e),
                Err(_would_block) if has_hung_up => return Ok(0),
                Err(_would_block) => {}
            }
        }
    }

    /// Without waiting. Whatever keeps it from reading on will be met again by the next read.
    fn read_on(&self, buf: &mut [u8]) -> usize {
        let mut len = 0;
        while len < buf.len() {
            match nix::unistd::read(self.0.get_ref(), &mut buf[len..]) {
                Ok(n) if n > 0 => len += n,
                _ => break,
            }
        }
        len
    }

    /// The process group that keys send signals to.
    pub fn foreground(&self) -> Option<Pid> {
        nix::unistd::tcgetpgrp(self.0.get_ref()).ok().filter(|group| group.as_raw() > 1)
    }

    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            // One that has hung up is ready for ever, and yet takes no more once it is full.
            let has_hung_up = ready.ready().is_write_closed();
            match ready.try_io(|fd| nix::unistd::write(fd.get_ref(), bytes).map_err(io::Error::from)) {
                Ok(Ok(n)) => bytes = &bytes[n..],
                Ok(Err(e)) => return Err(e),
                Err(_would_block) if has_hung_up => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Bytes that can be read without waiting.
    pub fn pending(&self) -> usize {
        pending(self.0.as_raw_fd())
    }
}

/// Bytes waiting in a pipe or terminal; 0 if the kernel does not say.
pub fn pending(fd: std::os::fd::RawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    unsafe { libc::ioctl(fd, libc::FIONREAD, &mut bytes) };
    usize::try_from(bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_sizes_up_to_16_bits_and_80x24_for_none() {
        assert_eq!(Size::checked(0, 0).ok(), Some(Size { cols: 80, rows: 24 }));
        assert_eq!(Size::checked(65535, 1).ok(), Some(Size { cols: 65535, rows: 1 }));
        assert_eq!(Size::checked(65536, 1).err().map(|f| f.reason), Some(Reason::BadPtySize));
    }
}

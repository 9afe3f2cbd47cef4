//! userfaultfd as this program needs it: missing pages of memory that is in 4 KiB pages.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const IOC_NEW: libc::Ioctl = 0xAA00;
const API: u64 = 0xAA;
const EVENT_PAGEFAULT: u8 = 0x12;
const EVENT_REMOVE: u8 = 0x15;
const MODE_MISSING: u64 = 1;

/// `_IOR` and `_IOWR` of linux/userfaultfd.h.
const fn request(direction: u64, number: u64, size: usize) -> libc::Ioctl {
    ((direction << 30) | ((size as u64) << 16) | (API << 8) | number) as libc::Ioctl
}
const READ: u64 = 2;
const READ_WRITE: u64 = 3;

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Range {
    start: u64,
    len: u64,
}

#[repr(C)]
struct Register {
    range: Range,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct Copy {
    to: u64,
    from: u64,
    len: u64,
    mode: u64,
    done: i64,
}

#[repr(C)]
struct Zero {
    range: Range,
    mode: u64,
    done: i64,
}

/// As the kernel writes it: the kind, then at byte 8 what belongs to it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Message {
    event: u8,
    reserved: [u8; 7],
    arg: [u64; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Fault {
        address: u64,
    },
    /// The guest gave these pages back: from now on they are zero.
    Removed {
        start: u64,
        end: u64,
    },
    Unknown(u8),
}

/// The most that is read at once.
pub const MOST_EVENTS: usize = 16;

/// How far a range was filled, and what stopped it.
#[derive(Debug, PartialEq, Eq)]
pub struct Filled {
    pub bytes: u64,
    pub stopped_by: Option<i32>,
}

pub const EVENT_REMOVE_FEATURE: u64 = 1 << 3;

pub struct Uffd(OwnedFd);

impl Uffd {
    /// A new one out of an open /dev/userfaultfd, which needs no privilege.
    pub fn from_device(device: BorrowedFd<'_>, features: u64) -> io::Result<Uffd> {
        // SAFETY: the request takes flags and makes a descriptor.
        let fd = unsafe { libc::ioctl(device.as_raw_fd(), IOC_NEW, libc::O_CLOEXEC | libc::O_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made it for us.
        let uffd = Uffd(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut api = Api { api: API, features, ioctls: 0 };
        uffd.call(request(READ_WRITE, 0x3F, size_of::<Api>()), &mut api)?;
        Ok(uffd)
    }

    /// One that another process made. Reads from it never wait.
    pub fn received(fd: OwnedFd) -> io::Result<Uffd> {
        // SAFETY: both change and read flags of a descriptor that is ours.
        let set = unsafe {
            let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
            libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
        };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(Uffd(fd)) }
    }

    pub fn register_missing(&self, start: u64, len: u64) -> io::Result<()> {
        let mut register = Register { range: Range { start, len }, mode: MODE_MISSING, ioctls: 0 };
        self.call(request(READ_WRITE, 0x00, size_of::<Register>()), &mut register)
    }

    /// Gives missing pages their content and wakes who waits for them. Stops at a page that is there.
    pub fn copy(&self, to: u64, content: &[u8]) -> Filled {
        let len = content.len() as u64;
        let mut copy = Copy { to, from: content.as_ptr() as u64, len, mode: 0, done: 0 };
        let result = self.call(request(READ_WRITE, 0x03, size_of::<Copy>()), &mut copy);
        filled(result, copy.done)
    }

    pub fn zero(&self, start: u64, len: u64) -> Filled {
        let mut zero = Zero { range: Range { start, len }, mode: 0, done: 0 };
        let result = self.call(request(READ_WRITE, 0x04, size_of::<Zero>()), &mut zero);
        filled(result, zero.done)
    }

    /// For pages that somebody else filled: `copy` and `zero` wake by themselves.
    pub fn wake(&self, start: u64, len: u64) -> io::Result<()> {
        self.call(request(READ, 0x02, size_of::<Range>()), &mut Range { start, len })
    }

    /// What waits to be read: nothing, if nothing does.
    pub fn events(&self) -> io::Result<Vec<Event>> {
        let mut messages = [Message::default(); MOST_EVENTS];
        // SAFETY: the kernel writes whole messages into an array of so many bytes, each valid whatever its bits.
        let read = unsafe { libc::read(self.fd(), messages.as_mut_ptr().cast(), size_of_val(&messages)) };
        if read < 0 {
            let error = io::Error::last_os_error();
            let nothing = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if nothing { Ok(Vec::new()) } else { Err(error) };
        }
        Ok(messages[..read as usize / size_of::<Message>()].iter().map(event).collect())
    }

    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn call<T>(&self, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
        // SAFETY: each request is used with the struct that it is defined with. What a copy reads is a slice that
        // lives as long as the call; what it fills is memory that was registered with this descriptor.
        match unsafe { libc::ioctl(self.fd(), request, argument) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn filled(result: io::Result<()>, done: i64) -> Filled {
    let stopped_by = result.err().map(|error| error.raw_os_error().unwrap_or(libc::EIO));
    // After an error the kernel leaves the error here, or nothing.
    Filled { bytes: u64::try_from(done).unwrap_or(0), stopped_by }
}

fn event(message: &Message) -> Event {
    match message.event {
        EVENT_PAGEFAULT => Event::Fault { address: message.arg[1] },
        EVENT_REMOVE => Event::Removed { start: message.arg[0], end: message.arg[1] },
        other => Event::Unknown(other),
    }
}

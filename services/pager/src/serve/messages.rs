//! The handshake on its socket, as the VM sends it and as the pager receives it.

use super::fatal::Fatal;
use crate::format::Malformed;
use crate::handshake::{self, Handshake};
use crate::regions::{Region, Regions};
use crate::uffd::Uffd;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::ptr;
use std::time::{Duration, Instant};

const SPEAKS_WITHIN: Duration = Duration::from_secs(10);
/// One is right; room for more shows that they were sent.
const MOST_DESCRIPTORS: usize = 8;

/// Whether there is something to read before that time is over.
pub fn readable(fd: BorrowedFd<'_>, until: Instant) -> Result<bool, Fatal> {
    loop {
        let left = until.saturating_duration_since(Instant::now()).as_millis() as libc::c_int;
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, which outlives the call.
        match unsafe { libc::poll(&raw mut poll, 1, left) } {
            0 => return Ok(false),
            1.. => return Ok(true),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(Fatal::internal(format!("poll: {error}"))),
            },
        }
    }
}

/// The VM's handshake.
pub fn receive(stream: &UnixStream, memory_bytes: u64) -> Result<(Regions, Uffd), Fatal> {
    let until = Instant::now() + SPEAKS_WITHIN;
    let (mut said, mut passed) = (Vec::new(), None);
    loop {
        if !readable(stream.as_fd(), until)? {
            return Err(Fatal::handshake("it was not said in time".to_owned()));
        }
        let before = said.len();
        receive_part(stream, &mut said, &mut passed)?;
        if said.len() == before {
            return Err(Fatal::handshake("it ended too early".to_owned()));
        }
        match handshake::read(&said, memory_bytes) {
            Ok(Handshake::Unfinished) => {}
            Ok(Handshake::Regions(regions)) => {
                let fd = passed.ok_or_else(|| Fatal::handshake("it came without a descriptor".to_owned()))?;
                let uffd = Uffd::received(fd).map_err(|error| Fatal::handshake(error.to_string()))?;
                return Ok((regions, uffd));
            }
            Err(Malformed(why)) => return Err(Fatal::handshake(why)),
        }
    }
}

fn receive_part(stream: &UnixStream, said: &mut Vec<u8>, passed: &mut Option<OwnedFd>) -> Result<(), Fatal> {
    let mut part = [0u8; 4096];
    let mut control = [0u64; control_words(MOST_DESCRIPTORS)];
    let mut into = libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() };
    // SAFETY: zero is a valid msghdr; its pointers are set to buffers that outlive the call, with their sizes.
    let (count, message) = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut into;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        (libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC), message)
    };
    if count < 0 {
        return Err(Fatal::handshake(io::Error::last_os_error().to_string()));
    }
    let mut too_many = false;
    // SAFETY: the kernel filled the control buffer and set its length; the macros stay within it, and each
    // descriptor in it is new and ours.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                for index in 0..bytes / size_of::<RawFd>() {
                    let fd = ptr::read_unaligned(libc::CMSG_DATA(header).cast::<RawFd>().add(index));
                    too_many |= passed.replace(OwnedFd::from_raw_fd(fd)).is_some();
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 || too_many {
        return Err(Fatal::handshake("more descriptors than one".to_owned()));
    }
    said.extend_from_slice(&part[..count as usize]);
    Ok(())
}

const fn control_words(descriptors: usize) -> usize {
    // SAFETY: computes a size.
    (unsafe { libc::CMSG_SPACE((descriptors * size_of::<RawFd>()) as libc::c_uint) } as usize).div_ceil(8)
}

/// The VMM's side.
pub fn send_handshake(socket: &Path, regions: &[Region], uffd: &Uffd) -> io::Result<()> {
    send(&UnixStream::connect(socket)?, &handshake::write(regions), &[uffd.as_fd()])
}

/// A message with descriptors beside it.
pub fn send(stream: &UnixStream, said: &[u8], passed: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut control = [0u64; control_words(MOST_DESCRIPTORS)];
    let mut from = libc::iovec { iov_base: said.as_ptr().cast_mut().cast(), iov_len: said.len() };
    let count = passed.len().min(MOST_DESCRIPTORS);
    let size = (count * size_of::<RawFd>()) as libc::c_uint;
    // SAFETY: zero is a valid msghdr; its pointers are set to buffers that outlive the call, with their sizes; the
    // control buffer has room for as many descriptors as are written into it. The kernel only reads.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut from;
        message.msg_iovlen = 1;
        if count > 0 {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
            let into = libc::CMSG_DATA(header).cast::<RawFd>();
            for (index, fd) in passed[..count].iter().enumerate() {
                ptr::write_unaligned(into.add(index), fd.as_raw_fd());
            }
        }
        libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    };
    match usize::try_from(sent) {
        Ok(count) if count == said.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

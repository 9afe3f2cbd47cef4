//! The guest's memory among all that a program maps.

use std::ffi::{CString, c_int, c_void};
use std::mem::MaybeUninit;

/// The system call itself: looking the real function up could wait for a lock that the caller holds.
///
/// # Safety
/// As mmap(2).
pub unsafe fn map(at: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void {
    // SAFETY: the caller's, as mmap(2) has it.
    unsafe { libc::syscall(libc::SYS_mmap, at, len, prot, flags, fd, offset) as *mut c_void }
}

/// The whole of the file at that path. Leaves errno as it is: the caller's mmap has worked.
pub fn is_ram(path: &CString, fd: c_int, len: usize) -> bool {
    // SAFETY: reads and writes this thread's errno.
    let errno = unsafe { *libc::__errno_location() };
    let (mut mapped, mut ram) = (MaybeUninit::<libc::stat>::uninit(), MaybeUninit::<libc::stat>::uninit());
    // SAFETY: both calls fill a stat of ours, which is read only if they did.
    let is_ram = unsafe {
        libc::fstat(fd, mapped.as_mut_ptr()) == 0 && libc::stat(path.as_ptr(), ram.as_mut_ptr()) == 0 && {
            let (mapped, ram) = (mapped.assume_init(), ram.assume_init());
            mapped.st_dev == ram.st_dev && mapped.st_ino == ram.st_ino && mapped.st_size == len as i64
        }
    };
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    is_ram
}

//! Preloaded into QEMU: puts the guest's memory on a snapshot's files, or hands it to the pager.
//! Runs inside another program, its seccomp filter and its threads included: it makes system calls itself, changes
//! one mapping once, and ends the program with one line on stderr when that fails.

mod lazy;
mod mapped;
mod ram;
mod settings;

use settings::{Mode, Settings};
use std::ffi::{c_int, c_void};
use std::sync::Mutex;

/// What to do with the guest's memory, until it is done.
static WAITING: Mutex<Option<Settings>> = Mutex::new(None);

/// Anything that goes wrong in the shim.
const FAILED: c_int = 99;

#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;

/// Before main, so that nobody reads or changes the environment meanwhile.
extern "C" fn at_load() {
    match settings::take_out() {
        Ok(None) => {}
        Ok(Some(settings)) => {
            if let Ok(mut waiting) = WAITING.lock() {
                *waiting = Some(settings);
            }
        }
        Err(why) => fail(&why),
    }
}

fn fail(why: &str) -> ! {
    let line = format!("wrenn-shim: {why}\n");
    // SAFETY: writes a string of that length; _exit runs nothing of the program that may need what is missing.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
        libc::_exit(FAILED)
    }
}

/// # Safety
/// As mmap(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    at: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    // SAFETY: the caller's own call, made as it asked.
    let mapped = unsafe { ram::map(at, len, prot, flags, fd, offset) };
    if mapped != libc::MAP_FAILED && fd >= 0 && prot & libc::PROT_WRITE != 0 && offset == 0 {
        take_over(mapped, len, prot, flags, fd);
    }
    mapped
}

/// # Safety
/// As mmap(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    at: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    // SAFETY: the same call under the name that programs with large files use.
    unsafe { mmap(at, len, prot, flags, fd, offset) }
}

/// If this mapping is the guest's memory. It is taken over once; what is mapped after that stays as it is.
fn take_over(mapped: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int) {
    let Ok(mut waiting) = WAITING.lock() else { return };
    if !waiting.as_ref().is_some_and(|settings| ram::is_ram(&settings.ram, fd, len)) {
        return;
    }
    let Some(settings) = waiting.take() else { return };
    let done = match settings.mode {
        Mode::Map(map) => mapped::take_over(map, mapped as u64, len as u64, prot),
        Mode::Uffd(uffd) => lazy::take_over(uffd, mapped as u64, len as u64, flags),
    };
    if let Err(why) = done {
        fail(&why);
    }
}

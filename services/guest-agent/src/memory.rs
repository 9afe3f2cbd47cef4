//! The agent when something is short. Memory: it is the last that the kernel ends, since the guest ends with it,
//! and what it frees goes back to the guest, so that a burst does not stay in every snapshot that is taken later.
//! The processor: it comes before what it runs, so that what runs away can be ended.

use crate::console::say;
use nix::errno::Errno;
use std::fs;

/// Never, whatever is short; children take it back before they run a program.
const NEVER_KILLED: &str = "-1000";

/// Nine times a program's share.
const NICENESS: libc::c_int = -10;

/// From this size on an allocation is a mapping of its own. A fixed size: by itself glibc raises it. The buffers of a
/// transfer stay below: to map and fill each anew takes a third of an upload's time in an emulated guest.
const MAPPED_BYTES: libc::c_int = 256 * 1024;
/// What may stay free at the end of the heap: those buffers, which come and go all the time.
const KEPT_BYTES: libc::c_int = 2 * 1024 * 1024;
/// Threads come and go with file operations; an arena each would keep what they leave.
const ARENAS: libc::c_int = 2;

/// To be called before there is a second thread.
pub fn keep_small() {
    // SAFETY: no other thread uses the allocator yet; the calls change three of its settings.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}

/// What it starts is as any program: see `spawn`.
pub fn come_first() {
    // SAFETY: a plain system call on integers.
    if let Err(e) = Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) }) {
        say(format_args!("the agent runs as if it were a program: {e}"));
    }
    // Where each session has a share of its own, this is what counts between them.
    if fs::exists("/proc/self/autogroup").unwrap_or(false)
        && let Err(e) = fs::write("/proc/self/autogroup", NICENESS.to_string())
    {
        say(format_args!("the agent shares the processor with its programs: {e}"));
    }
    if let Err(e) = fs::write("/proc/self/oom_score_adj", NEVER_KILLED) {
        say(format_args!("the kernel may end the agent when memory is short: {e}"));
    }
}

/// Of the machine; 0 if the kernel does not say.
pub fn total_bytes() -> u64 {
    // SAFETY: the call fills the structure, whose zero value is valid.
    unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        libc::sysinfo(&mut info);
        info.totalram * u64::from(info.mem_unit)
    }
}

//! PID 1: turns a bare kernel and a block device into a machine, then serves. Nothing is forked and no
//! program of the guest is needed. What fails before serving is said on the console, then the machine stops.

mod disk;
mod modules;
mod mounts;
mod network;

use crate::console::say;
use crate::machine;
use crate::memory;
use crate::server;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{Resource, setrlimit};
use std::fmt::Display;
use std::fs;
use std::time::{Duration, Instant};

/// Descriptors that one process may open, the agent included.
const OPEN_FILES: u64 = 524_288;
/// Memory for each thread that there may be: with less, a fork bomb would end in a shortage of it, which kills.
const BYTES_PER_THREAD: u64 = 512 * 1024;
const LEAST_THREADS: u64 = 256;
/// Until Init names the guest.
const HOSTNAME: &str = "wrenn";
const SYSCTLS: [(&str, &str); 4] = [
    // Lets everybody ping without privileges.
    ("net/ipv4/ping_group_range", "0 2147483647"),
    // Development servers watch whole trees.
    ("fs/inotify/max_user_watches", "524288"),
    ("fs/inotify/max_user_instances", "8192"),
    // A server whose queue is short, as Python's of five, has connections wait. By cookies the kernel says yes to more
    // than there is room for, and resets those of them that have sent more than it kept.
    ("net/ipv4/tcp_syncookies", "0"),
];

/// Why the machine could not be started.
pub struct Failure {
    what: String,
    why: String,
}

/// Gives a failed step its name.
pub trait Naming<T> {
    fn naming(self, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Display> Naming<T> for Result<T, E> {
    fn naming(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|e| Failure { what: what.to_string(), why: e.to_string() })
    }
}

/// Never returns: the machine ends when its agent does.
pub fn run() -> ! {
    let end = boot().and_then(|()| server::run_in_guest().naming("serve"));
    if let Err(Failure { what, why }) = end {
        say(format_args!("{what}: {why}"));
    }
    stop()
}

fn boot() -> Result<(), Failure> {
    mounts::kernel_interfaces()?;
    mounts::attach_console()?;
    let command_line = fs::read_to_string("/proc/cmdline").naming("read /proc/cmdline")?;
    if command_line.split_whitespace().any(|word| word == "wrenn.probe") {
        // The prefix that `say` writes would spoil the word that the host waits for.
        println!("WRENN_PROBE_OK");
        stop();
    }
    modules::load_all()?;
    disk::mount()?;
    mounts::switch_root()?;
    mounts::complete()?;
    disk::grow();
    network::bring_up()?;
    settle();
    Ok(())
}

/// Comforts that no guest has to stop for.
fn settle() {
    let threads = (memory::total_bytes() / BYTES_PER_THREAD).max(LEAST_THREADS).to_string();
    for (name, value) in SYSCTLS.into_iter().chain([("kernel/threads-max", threads.as_str())]) {
        if let Err(e) = fs::write(format!("/proc/sys/{name}"), value) {
            say(format_args!("sysctl {name}: {e}"));
        }
    }
    let named = machine::set_hostname(HOSTNAME).and_then(|()| machine::set_resolver(&machine::PUBLIC_RESOLVERS));
    if let Err(fault) = named {
        say(fault.message);
    }
    if let Err(e) = setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES) {
        say(format_args!("limit of open files: {e}"));
    }
}

/// Polls fast: devices appear within milliseconds of their driver.
fn wait_for(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !ready() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// A restart, not a power-off: microvm machines have no power button, and the host runs them so that a
/// restart ends the VMM.
fn stop() -> ! {
    nix::unistd::sync();
    let _ = nix::sys::termios::tcdrain(std::io::stderr());
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    loop {
        std::thread::park();
    }
}

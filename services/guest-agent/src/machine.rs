//! What belongs to the whole machine: clock, entropy, host name, resolver. Called only by an agent that
//! owns its machine.

use crate::console::say;
use crate::fault::{Fault, Outcome, Reason};
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use std::arch::x86_64::{_rdrand64_step, _rdtsc};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

/// Bytes mixed into the kernel's pool at once, at most.
pub const SEED_BYTES: usize = 1024;

/// For guests that were told none.
pub const PUBLIC_RESOLVERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8))];

pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(Duration::ZERO, Duration::from)
}

pub fn set_clock(time: Duration) -> Outcome<()> {
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(time))
        .map_err(|e| Fault::new(Reason::BadTime, format!("the clock cannot be set: {}", e.desc())))
}

/// The kernel's name is what counts; the files are for programs that look there, and a full disk must not
/// keep a guest from resuming.
pub fn set_hostname(name: &str) -> Outcome<()> {
    nix::unistd::sethostname(name).map_err(|e| Fault::internal("set the host name", e))?;
    let hosts = match fs::read_to_string("/etc/hosts") {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    };
    let named = replace(Path::new("/etc/hostname"), &format!("{name}\n"))
        .and_then(|()| replace(Path::new("/etc/hosts"), &with_own_name(&hosts?, name)));
    if let Err(e) = named {
        say(format_args!("write the host name to /etc: {e}"));
    }
    Ok(())
}

fn with_own_name(hosts: &str, name: &str) -> String {
    let mut lines: Vec<&str> = hosts.lines().filter(|l| l.split_whitespace().next() != Some("127.0.1.1")).collect();
    if !lines.iter().any(|l| l.split_whitespace().next() == Some("127.0.0.1")) {
        lines.insert(0, "127.0.0.1 localhost");
    }
    format!("{}\n127.0.1.1 {name}\n", lines.join("\n"))
}

pub fn set_resolver(nameservers: &[IpAddr]) -> Outcome<()> {
    let content: String = nameservers.iter().map(|ip| format!("nameserver {ip}\n")).collect();
    replace(Path::new("/etc/resolv.conf"), &content).map_err(|e| match e.kind() {
        io::ErrorKind::StorageFull => Fault::new(Reason::NoSpaceLeft, "the disk has no room for /etc/resolv.conf"),
        _ => Fault::internal("write /etc/resolv.conf", e),
    })
}

/// Replaces a file, or the link in its place, as a whole. Writes nothing if it is as it should be.
pub fn replace(path: &Path, content: &str) -> io::Result<()> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|m| m.is_file());
    if is_file && fs::read(path).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let draft = path.with_extension("wrenn-new");
    fs::write(&draft, content).and_then(|()| fs::rename(&draft, path)).inspect_err(|_| {
        // The draft of a failed write is of no use to anybody.
        let _ = fs::remove_file(&draft);
    })
}

/// Makes this guest's random numbers its own: clones of one snapshot start with equal kernel state.
/// `personal` is what only this one has (id, time, bytes of the host).
pub fn reseed(personal: &[u8]) -> Outcome<()> {
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    const RNDRESEEDCRNG: libc::c_ulong = 0x5207;
    #[repr(C)]
    struct Pool {
        entropy_bits: libc::c_int,
        size: libc::c_int,
        bytes: [u8; SEED_BYTES],
    }
    let broken = |e: Errno| Fault::internal("reseed the kernel's random numbers", e);
    let mut seed = cpu_noise();
    seed.extend(&personal[..personal.len().min(SEED_BYTES - seed.len())]);
    let mut pool = Pool { entropy_bits: 256, size: seed.len() as libc::c_int, bytes: [0; SEED_BYTES] };
    pool.bytes[..seed.len()].copy_from_slice(&seed);
    let device = fs::File::open("/dev/urandom").map_err(|e| Fault::internal("open /dev/urandom", e))?;
    // SAFETY: the kernel reads the two numbers and `size` bytes after them, all within `pool`.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), RNDADDENTROPY, &pool) }).map_err(broken)?;
    // SAFETY: this ioctl has no argument.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), RNDRESEEDCRNG) }).map(drop).map_err(broken)
}

/// 72 bytes from the processor; without RDRAND only its cycle counter differs between clones.
fn cpu_noise() -> Vec<u8> {
    // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
    let mut noise = unsafe { _rdtsc() }.to_ne_bytes().to_vec();
    let has_rdrand = std::arch::is_x86_feature_detected!("rdrand");
    for _ in 0..8 {
        let mut word = 0;
        if has_rdrand {
            // SAFETY: the processor has the instruction.
            unsafe { _rdrand64_step(&mut word) };
        }
        noise.extend(word.to_ne_bytes());
    }
    noise
}

/// Unchanged by a resume, new after a boot.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// A guest that has a machine id gets one of its own, so that no two clones share it.
pub fn renew_machine_id() {
    const PATH: &str = "/etc/machine-id";
    if !std::path::Path::new(PATH).exists() {
        return;
    }
    let mut id = [0u8; 16];
    // SAFETY: getrandom writes at most as many bytes as the buffer has.
    let filled = unsafe { libc::getrandom(id.as_mut_ptr().cast(), id.len(), 0) };
    let text: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    if filled != id.len() as isize {
        say(format_args!("no randomness for {PATH}"));
    } else if let Err(e) = std::fs::write(PATH, text + "\n") {
        say(format_args!("{PATH}: {e}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_host_once_and_keeps_the_other_lines() {
        let first = with_own_name("127.0.0.1 localhost\n10.0.0.1 db\n", "a");
        assert_eq!(first, "127.0.0.1 localhost\n10.0.0.1 db\n127.0.1.1 a\n");
        assert_eq!(with_own_name(&first, "b"), "127.0.0.1 localhost\n10.0.0.1 db\n127.0.1.1 b\n");
        assert_eq!(with_own_name("", "c"), "127.0.0.1 localhost\n127.0.1.1 c\n");
    }

    #[test]
    fn replaces_a_link_by_a_file_and_leaves_its_target_alone() -> io::Result<()> {
        let dir = std::env::temp_dir().join(format!("wrenn-replace-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let (target, link) = (dir.join("target"), dir.join("resolv.conf"));
        fs::write(&target, "theirs")?;
        std::os::unix::fs::symlink(&target, &link)?;
        replace(&link, "ours")?;
        let got = (fs::read_to_string(&target)?, fs::read_to_string(&link)?);
        fs::remove_dir_all(&dir)?;
        assert_eq!(got, ("theirs".into(), "ours".into()));
        Ok(())
    }
}

//! The file systems of the kernel, before and after the root is switched.

use super::{Failure, Naming as _};
use crate::console::say;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

pub const NEW_ROOT: &str = "/new-root";

const NO_DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const NO_PROGRAMS: MsFlags = NO_DEVICES.union(MsFlags::MS_NOEXEC);

/// Mounts over a directory, made if it is missing. `Busy`: the kernel has mounted it already.
fn attach(kind: &str, target: &str, flags: MsFlags, data: &str) -> Result<(), Failure> {
    fs::create_dir_all(target).naming(format_args!("make {target}"))?;
    match mount(Some(kind), target, Some(kind), flags, Some(data)) {
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(e) => Err(e).naming(format_args!("mount {target}")),
    }
}

/// What the boot itself needs.
pub fn kernel_interfaces() -> Result<(), Failure> {
    attach("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755,size=4m")?;
    attach("proc", "/proc", NO_PROGRAMS, "")?;
    attach("sysfs", "/sys", NO_PROGRAMS, "")
}

/// An initramfs without /dev/console starts its init without descriptors.
pub fn attach_console() -> Result<(), Failure> {
    let console = open("/dev/console", OFlag::O_RDWR | OFlag::O_NOCTTY, Mode::empty()).naming("open /dev/console")?;
    nix::unistd::dup2_stdin(&console).naming("attach the console")?;
    nix::unistd::dup2_stdout(&console).naming("attach the console")?;
    nix::unistd::dup2_stderr(&console).naming("attach the console")
}

/// Makes the mounted disk the root and takes the kernel's file systems along. The agent's own file stays
/// mapped, so it goes on although its name is gone.
pub fn switch_root() -> Result<(), Failure> {
    const NONE: Option<&str> = None;
    for dir in ["/dev", "/proc", "/sys"] {
        let target = format!("{NEW_ROOT}{dir}");
        fs::create_dir_all(&target).naming(format_args!("make {dir} on the disk"))?;
        mount(Some(dir), target.as_str(), NONE, MsFlags::MS_MOVE, NONE).naming(format_args!("move {dir}"))?;
    }
    nix::unistd::chdir(NEW_ROOT).naming("enter the disk")?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE).naming("switch the root")?;
    nix::unistd::chroot(".").naming("switch the root")?;
    nix::unistd::chdir("/").naming("switch the root")
}

/// What programs expect beside the disk. /tmp stays on it: memory is dearer, and snapshots hold it. All that is
/// in memory is bounded, and together by less than there is: what fills it is told so, and the guest lives.
pub fn complete() -> Result<(), Failure> {
    attach("devpts", "/dev/pts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666")?;
    attach("tmpfs", "/dev/shm", NO_DEVICES, "mode=1777,size=50%")?;
    attach("tmpfs", "/run", NO_DEVICES, "mode=0755,size=10%")?;
    for (link, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(target, format!("/dev/{link}")).naming(format_args!("make /dev/{link}"))?;
    }
    // Not every kernel has cgroups, and no guest needs them to start.
    if let Err(Failure { what, why }) = attach("cgroup2", "/sys/fs/cgroup", NO_PROGRAMS, "") {
        say(format_args!("{what}: {why}"));
    }
    if let Err(e) =
        fs::create_dir_all("/tmp").and_then(|()| fs::set_permissions("/tmp", Permissions::from_mode(0o1777)))
    {
        say(format_args!("make /tmp: {e}"));
    }
    Ok(())
}

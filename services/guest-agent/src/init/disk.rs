//! The root disk: /dev/vda with ext4, grown to the size of its device.

use super::mounts::NEW_ROOT;
use super::{Failure, Naming as _, wait_for};
use crate::console::say;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount as mount_fs};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

const DEVICE: &str = "/dev/vda";
const PATIENCE: Duration = Duration::from_secs(10);

nix::ioctl_read!(device_bytes, 0x12, 114, u64);
nix::ioctl_write_ptr!(ext4_resize, b'f', 16, u64);

pub fn mount() -> Result<(), Failure> {
    if !wait_for(PATIENCE, || Path::new(DEVICE).exists()) {
        return Err(format!("did not appear within {} s", PATIENCE.as_secs())).naming(DEVICE);
    }
    fs::create_dir_all(NEW_ROOT).naming("make the mount point")?;
    // Writes that nobody asked for (access times, empty inode tables) would only fatten every clone's disk.
    mount_fs(Some(DEVICE), NEW_ROOT, Some("ext4"), MsFlags::MS_NOATIME, Some("noinit_itable"))
        .naming(format_args!("mount {DEVICE}"))
}

/// A guest with less room than it could have still works.
pub fn grow() {
    if let Err(e) = try_grow() {
        say(format_args!("grow the file system: {e}"));
    }
}

fn try_grow() -> io::Result<()> {
    let device = File::open(DEVICE)?;
    let mut superblock = [0; 1024];
    device.read_exact_at(&mut superblock, 1024)?;
    let mut bytes = 0;
    // SAFETY: the kernel writes one 64-bit number.
    unsafe { device_bytes(device.as_raw_fd(), &mut bytes) }?;
    let size = Size::of(&superblock).ok_or_else(|| io::Error::other("the device holds no ext4"))?;
    let blocks = bytes / size.block_bytes;
    if blocks > size.blocks {
        // SAFETY: the kernel reads one 64-bit number.
        unsafe { ext4_resize(File::open("/")?.as_raw_fd(), &blocks) }.map_err(|e: Errno| io::Error::from(e))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
struct Size {
    block_bytes: u64,
    blocks: u64,
}

impl Size {
    /// As ext4's superblock tells it.
    fn of(superblock: &[u8; 1024]) -> Option<Self> {
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| superblock[at + i]));
        let is_ext4 = superblock[0x38..0x3a] == [0x53, 0xef];
        let has_64_bit = u32_at(0x60) & 0x80 != 0;
        let high = if has_64_bit { u32_at(0x150) } else { 0 };
        let block_bytes = 1024u64.checked_shl(u32_at(0x18)).filter(|&n| (1024..=65536).contains(&n))?;
        is_ext4.then(|| Self { block_bytes, blocks: u64::from(high) << 32 | u64::from(u32_at(4)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_size_from_a_superblock_and_refuses_anything_else() {
        let mut block = [0; 1024];
        block[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        block[4..8].copy_from_slice(&1000u32.to_le_bytes());
        block[0x18] = 2;
        block[0x150] = 1;
        assert_eq!(Size::of(&block), Some(Size { block_bytes: 4096, blocks: 1000 }));
        block[0x60] = 0x80;
        assert_eq!(Size::of(&block), Some(Size { block_bytes: 4096, blocks: (1 << 32) + 1000 }));
        block[0x18] = 200;
        assert_eq!(Size::of(&block), None);
        assert_eq!(Size::of(&[0; 1024]), None);
    }
}

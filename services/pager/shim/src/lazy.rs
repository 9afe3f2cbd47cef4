//! `uffd`: the mapping is registered for missing pages and handed to the pager.

use crate::settings::Uffd as Settings;
use std::ffi::c_int;
use std::mem;
use std::os::fd::AsFd;
use wrenn_pager::regions::Region;
use wrenn_pager::serve::send_handshake;
use wrenn_pager::uffd::Uffd;

pub fn take_over(settings: Settings, address: u64, bytes: u64, flags: c_int) -> Result<(), String> {
    // Else the guest's memory would not be in the file when it is frozen.
    if flags & libc::MAP_TYPE == libc::MAP_PRIVATE {
        return Err("the memory is mapped privately: it needs share=on".to_owned());
    }
    let uffd = Uffd::from_device(settings.device.as_fd(), 0).map_err(|error| format!("userfaultfd: {error}"))?;
    uffd.register_missing(address, bytes).map_err(|error| format!("userfaultfd: {error}"))?;
    let region = Region { address, bytes, offset: 0 };
    send_handshake(&settings.socket, &[region], &uffd)
        .map_err(|error| format!("{}: {error}", settings.socket.display()))?;
    // Stays open here: if the pager died with the last of it, the kernel would give the guest zeros from then on.
    mem::forget(uffd);
    Ok(())
}

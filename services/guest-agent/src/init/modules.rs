//! The kernel modules of the initramfs, loaded in order of their names (`NN-name.ko`).

use super::{Failure, Naming as _};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use std::fs::{self, File};
use std::path::PathBuf;

const DIR: &str = "/mod";

/// Each file goes once it is loaded, which gives its memory back to the guest. No directory: no modules.
pub fn load_all() -> Result<(), Failure> {
    let Ok(listing) = fs::read_dir(DIR) else { return Ok(()) };
    let mut files: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "ko"));
    files.sort();
    for path in files {
        let name = path.display();
        let file = File::open(&path).naming(format_args!("open {name}"))?;
        match finit_module(&file, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e).naming(format_args!("load {name}")),
        }
        fs::remove_file(&path).naming(format_args!("remove {name}"))?;
    }
    Ok(())
}

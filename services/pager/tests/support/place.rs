//! A directory of a test on tmpfs, as guest memory is, gone with it.

use std::ffi::CString;
use std::fs;
use std::io::Error;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Place(PathBuf);

/// A tmpfs of 1 MiB.
pub struct SmallTmpfs(PathBuf);

impl SmallTmpfs {
    pub fn mount(at: PathBuf) -> SmallTmpfs {
        fs::create_dir(&at).unwrap();
        let path = CString::new(at.as_os_str().as_bytes()).unwrap();
        // SAFETY: strings that outlive the call.
        let mounted =
            unsafe { libc::mount(c"tmpfs".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, c"size=1m".as_ptr().cast()) };
        assert_eq!(mounted, 0, "{}", Error::last_os_error());
        SmallTmpfs(at)
    }

    /// A file with that size and no content.
    pub fn file(&self, bytes: u64) -> PathBuf {
        let path = self.0.join("ram");
        fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }
}

impl Drop for SmallTmpfs {
    fn drop(&mut self) {
        let path = CString::new(self.0.as_os_str().as_bytes()).unwrap();
        // SAFETY: a string that outlives the call.
        assert_eq!(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }, 0);
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Place {
    pub fn new() -> Place {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/dev/shm/wrenn-pager-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Place(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// An empty RAM file.
    pub fn ram(&self, bytes: u64) -> PathBuf {
        let path = self.at("ram");
        fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

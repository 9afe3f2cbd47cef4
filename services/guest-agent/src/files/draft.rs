//! A file's new content until it takes the file's place, all at once. The draft has no name where the file
//! system can do that, so nothing is left of one that is not finished, even if the agent dies; elsewhere
//! its name goes with it. All is done with the rights of the thread's user, relative to one open directory.

use super::content::is_a_directory;
use super::failure;
use super::identity::as_root;
use super::tree::make_all;
use crate::fault::{Fault, Outcome, Reason};
use crate::users::User;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat};
use nix::unistd::{AccessFlags, Gid, Uid, UnlinkatFlags, faccessat, fchown, linkat, unlinkat};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

const NEW_MODE: u32 = 0o644;
const MODE_BITS: u32 = 0o7777;
/// What a write by anybody but root takes from a program.
const PRIVILEGES: u32 = 0o6000;
const MAX_LINKS: usize = 40;

pub struct Draft {
    path: PathBuf,
    dir: OwnedFd,
    name: OsString,
    file: File,
    /// The draft's own name, while it has one.
    draft_name: Option<String>,
}

impl Draft {
    /// Follows links to the file itself, makes missing parents, and refuses what cannot be replaced.
    pub fn begin(path: &Path) -> Outcome<Self> {
        let path = behind_links(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(is_a_directory(&path)) };
        make_all(parent)?;
        let failed = |e: Errno| failure(&path, &e.into());
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(parent, flags, Mode::empty()).map_err(failed)?;
        if let Some(old) = existing(&dir, &path, name)? {
            if old.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits() {
                faccessat(&dir, name, AccessFlags::W_OK, AtFlags::AT_EACCESS).map_err(failed)?;
            } else {
                return Err(Fault::new(Reason::BadPath, format!("{} is no regular file", path.display())));
            }
        }
        let (file, draft_name) = nameless(&dir).map(|file| (file, None)).or_else(|_| named(&dir)).map_err(failed)?;
        Ok(Self { name: name.to_owned(), dir, file, draft_name, path })
    }

    fn failed(&self, errno: Errno) -> Fault {
        failure(&self.path, &errno.into())
    }

    pub fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.file.write_all(bytes).map_err(|e| failure(&self.path, &e))
    }

    /// Takes the file's place. `mode` unset: that of the file that is replaced, else 0644.
    pub fn commit(mut self, mode: Option<u32>, user: &User) -> Outcome<()> {
        let old = existing(&self.dir, &self.path, &self.name)?;
        if old.is_none() && self.draft_name.is_none() {
            fchmod(&self.file, Mode::from_bits_truncate(mode.unwrap_or(NEW_MODE))).map_err(|e| self.failed(e))?;
            match self.link(&self.name) {
                // Somebody was quicker: theirs is replaced.
                Err(Errno::EEXIST) => return self.commit(mode, user),
                linked => return linked.map_err(|e| self.failed(e)),
            }
        }
        if self.draft_name.is_none() {
            let name = fresh_name();
            self.link(name.as_ref()).map_err(|e| self.failed(e))?;
            self.draft_name = Some(name);
        }
        self.dress(mode, old, user)?;
        let draft_name = self.draft_name.as_deref().unwrap_or_default();
        renameat(&self.dir, draft_name, &self.dir, self.name.as_os_str()).map_err(|e| self.failed(e))?;
        self.draft_name = None;
        Ok(())
    }

    fn link(&self, name: &std::ffi::OsStr) -> nix::Result<()> {
        let file = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(AT_FDCWD, file.as_str(), &self.dir, name, AtFlags::AT_SYMLINK_FOLLOW)
    }

    /// Owner and mode of what is replaced. To give a file away is root's; it is done to the open file only.
    fn dress(&self, mode: Option<u32>, old: Option<FileStat>, user: &User) -> Outcome<()> {
        let kept = old.map(|old| old.st_mode & MODE_BITS & !(if user.uid == 0 { 0 } else { PRIVILEGES }));
        let mode = Mode::from_bits_truncate(mode.or(kept).unwrap_or(NEW_MODE));
        let owner = old.map(|old| (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid)));
        as_root(user, || {
            if let Some((uid, gid)) = owner {
                fchown(&self.file, Some(uid), Some(gid))?;
            }
            fchmod(&self.file, mode)
        })?
        .map_err(|e| self.failed(e))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(name) = &self.draft_name {
            // What else could be done about it?
            let _ = unlinkat(&self.dir, name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

fn behind_links(path: &Path) -> Outcome<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match readlinkat(AT_FDCWD, &path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            // No link, or nothing there yet.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(path),
            Err(e) => return Err(failure(&path, &e.into())),
        }
    }
    Err(failure(&path, &io::Error::from_raw_os_error(libc::ELOOP)))
}

fn existing(dir: &OwnedFd, path: &Path, name: &std::ffi::OsStr) -> Outcome<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(old) if old.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() => Err(is_a_directory(path)),
        Ok(old) => Ok(Some(old)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(failure(path, &e.into())),
    }
}

/// Only the user until it is finished.
const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

fn nameless(dir: &OwnedFd) -> nix::Result<File> {
    openat(dir, ".", OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC, PRIVATE).map(File::from)
}

fn named(dir: &OwnedFd) -> nix::Result<(File, Option<String>)> {
    let name = fresh_name();
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    openat(dir, name.as_str(), flags, PRIVATE).map(|file| (File::from(file), Some(name)))
}

/// One that nobody can have taken beforehand.
fn fresh_name() -> String {
    let mut random = [0; 8];
    // SAFETY: the kernel writes at most as many bytes as there are; so few it always gives.
    unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) };
    format!(".wrenn-{:016x}", u64::from_ne_bytes(random))
}

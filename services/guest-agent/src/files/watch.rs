//! Watches a directory with inotify, on a thread that has the user's rights, so that nothing is told about
//! what the user may not read. Loss is always told; a client that reads slowly fills the kernel's queue.

use super::entry::{Names, describe};
use super::failure;
use super::identity::spawn_as;
use crate::fault::{Fault, Outcome, Reason};
use crate::proto::filesystem::{EventType, FilesystemEvent};
use crate::users::User;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub recursive: bool,
    /// Events carry the entry's description.
    pub include_entry: bool,
}

pub enum Notice {
    Event(Box<FilesystemEvent>),
    /// The kernel dropped events.
    Lost,
}

/// The watch ends when this is dropped.
pub struct Watch {
    _alive: OwnedFd,
}

impl Watch {
    /// Returns once the watch stands. `deliver` may block, and says false when nobody listens any more.
    pub async fn start(
        user: &User,
        root: PathBuf,
        options: Options,
        mut deliver: impl FnMut(Notice) -> bool + Send + 'static,
    ) -> Outcome<Self> {
        let (ended, alive) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| no_watch(&root, e))?;
        let (tell, told) = oneshot::channel();
        spawn_as(user.clone(), move |ready| match ready.and_then(|()| Tree::new(root, options)) {
            Ok(mut tree) => {
                if tell.send(Ok(())).is_ok() {
                    tree.run(&ended, &mut deliver);
                }
            }
            // Who asked may have left.
            Err(fault) => drop(tell.send(Err(fault))),
        })?;
        told.await.unwrap_or_else(|_| Err(Fault::new(Reason::Internal, "the watch was abandoned")))?;
        Ok(Self { _alive: alive })
    }
}

fn no_watch(path: &Path, errno: Errno) -> Fault {
    match errno {
        Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC | Errno::ENOMEM => {
            Fault::new(Reason::TooManyWatchers, format!("the kernel has no watch left: {}", errno.desc()))
        }
        _ => failure(path, &io::Error::from(errno)),
    }
}

struct Tree {
    inotify: Inotify,
    root: PathBuf,
    options: Options,
    /// Where each watch stands, relative to the root.
    dirs: HashMap<WatchDescriptor, PathBuf>,
    /// Found in a new directory before its watch could tell: a creation told once is not told again.
    announced: HashSet<PathBuf>,
    out: Vec<FilesystemEvent>,
}

impl Tree {
    fn new(root: PathBuf, options: Options) -> Outcome<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|e| no_watch(&root, e))?;
        let (dirs, announced) = Default::default();
        let mut tree = Self { inotify, root, options, dirs, announced, out: Vec::new() };
        tree.add(PathBuf::new(), AddWatchFlags::empty()).map_err(|e| no_watch(&tree.root, e))?;
        if options.recursive {
            tree.add_below(Path::new(""), false)?;
        }
        Ok(tree)
    }

    fn add(&mut self, dir: PathBuf, extra: AddWatchFlags) -> nix::Result<()> {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let watch = self.inotify.add_watch(&self.root.join(&dir), flags | extra)?;
        self.dirs.insert(watch, dir);
        Ok(())
    }

    /// Watches all directories below `dir`; links are not followed. Directories that are gone or forbidden
    /// are passed over. With `is_new` what is found there is announced as created.
    fn add_below(&mut self, dir: &Path, is_new: bool) -> Outcome<()> {
        let mut pending = vec![dir.to_owned()];
        while let Some(dir) = pending.pop() {
            let Ok(listing) = fs::read_dir(self.root.join(&dir)) else { continue };
            for item in listing.flatten() {
                let path = dir.join(item.file_name());
                if is_new && self.announced.insert(path.clone()) {
                    self.tell(&path, EventType::EVENT_TYPE_CREATE);
                }
                if item.file_type().is_ok_and(|t| t.is_dir()) {
                    match self.add(path.clone(), AddWatchFlags::IN_DONT_FOLLOW) {
                        Ok(()) => pending.push(path),
                        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {}
                        Err(e) => return Err(no_watch(&path, e)),
                    }
                }
            }
        }
        Ok(())
    }

    fn forget_below(&mut self, dir: &Path) {
        let gone: Vec<_> = self.dirs.iter().filter(|(_, d)| d.starts_with(dir)).map(|(w, _)| *w).collect();
        for watch in gone {
            self.dirs.remove(&watch);
            // The kernel may have dropped it already.
            let _ = self.inotify.rm_watch(watch);
        }
    }

    fn run(&mut self, ended: &OwnedFd, deliver: &mut impl FnMut(Notice) -> bool) {
        loop {
            let mut fds = [self.inotify.as_fd(), ended.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            if poll(&mut fds, PollTimeout::NONE).is_err_and(|e| e != Errno::EINTR) || fds[1].any() != Some(false) {
                return;
            }
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(_) => return,
            };
            let lost = events.into_iter().filter(|event| !self.take(event)).count();
            let told = std::mem::take(&mut self.out).into_iter().all(|e| deliver(Notice::Event(Box::new(e))));
            if !told || (lost > 0 && !deliver(Notice::Lost)) {
                return;
            }
        }
    }

    /// False: events were lost.
    fn take(&mut self, event: &InotifyEvent) -> bool {
        let is = |flag| event.mask.contains(flag);
        if is(AddWatchFlags::IN_Q_OVERFLOW) {
            return false;
        }
        let Some(dir) = self.dirs.get(&event.wd).cloned() else { return true };
        if is(AddWatchFlags::IN_IGNORED) {
            self.dirs.remove(&event.wd);
            return true;
        }
        let Some(name) = &event.name else {
            // About the directory itself; of those below the root their parent's watch tells.
            if dir.as_os_str().is_empty() && is(AddWatchFlags::IN_DELETE_SELF) {
                self.tell(Path::new("."), EventType::EVENT_TYPE_REMOVE);
            }
            return true;
        };
        let path = dir.join(name);
        let is_dir = self.options.recursive && is(AddWatchFlags::IN_ISDIR);
        let came = is(AddWatchFlags::IN_CREATE) || is(AddWatchFlags::IN_MOVED_TO);
        let went = is(AddWatchFlags::IN_DELETE) || is(AddWatchFlags::IN_MOVED_FROM);
        if went {
            self.announced.remove(&path);
        }
        if went && is_dir {
            self.forget_below(&path);
        }
        if let Some(kind) = kind(event.mask)
            && !(came && self.announced.remove(&path))
        {
            self.tell(&path, kind);
        }
        if !(came && is_dir) {
            return true;
        }
        match self.add(path.clone(), AddWatchFlags::IN_DONT_FOLLOW) {
            Ok(()) => self.add_below(&path, true).is_ok(),
            Err(errno) => matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES),
        }
    }

    fn tell(&mut self, path: &Path, kind: EventType) {
        let described = || describe(&self.root.join(path), &Names::read()).ok();
        let entry = if self.options.include_entry { described() } else { None };
        let name = path.to_string_lossy().into_owned();
        self.out.push(FilesystemEvent { name, r#type: kind.into(), entry: entry.into(), ..Default::default() });
    }
}

/// The words of E2B clients: who moves away is renamed, who moves in is created.
fn kind(mask: AddWatchFlags) -> Option<EventType> {
    [
        (AddWatchFlags::IN_CREATE, EventType::EVENT_TYPE_CREATE),
        (AddWatchFlags::IN_MOVED_TO, EventType::EVENT_TYPE_CREATE),
        (AddWatchFlags::IN_MODIFY, EventType::EVENT_TYPE_WRITE),
        (AddWatchFlags::IN_DELETE, EventType::EVENT_TYPE_REMOVE),
        (AddWatchFlags::IN_MOVED_FROM, EventType::EVENT_TYPE_RENAME),
        (AddWatchFlags::IN_ATTRIB, EventType::EVENT_TYPE_CHMOD),
    ]
    .into_iter()
    .find_map(|(flag, kind)| mask.contains(flag).then_some(kind))
}

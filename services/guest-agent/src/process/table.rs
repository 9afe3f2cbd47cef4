//! The processes that were started here: those that run, and the last of those that ended.

use super::children::{Children, Exit, ExitWatch};
use super::fanout::Fanout;
use super::freezer::Freezer;
use super::input::Input;
use super::pty::{Pty, Size};
use crate::fault::{Fault, Outcome, Reason};
use crate::proto::process::ProcessConfig;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Of those that ended, and of their output in all.
const ENDED: usize = 256;
const ENDED_BYTES: usize = 16 << 20;

/// Names one process. Of several with the same name the newest is meant.
#[derive(Debug, Clone)]
pub enum Selector {
    Pid(u32),
    Tag(String),
}

impl Selector {
    fn means(&self, pid: u32, tag: Option<&String>) -> bool {
        match self {
            Self::Pid(meant) => *meant == pid,
            Self::Tag(meant) => Some(meant) == tag,
        }
    }

    fn missed(&self) -> Fault {
        let name = match self {
            Self::Pid(pid) => format!("pid {pid}"),
            Self::Tag(tag) => format!("tag {tag:?}"),
        };
        Fault::new(Reason::ProcessNotFound, format!("no running process has {name}"))
    }
}

/// What is left of a process: no descriptors, only what it said.
pub struct Ended {
    pub pid: u32,
    pub tag: Option<String>,
    pub fanout: Arc<Fanout>,
}

pub struct Running {
    pub pid: Pid,
    pub config: ProcessConfig,
    pub tag: Option<String>,
    pub input: Input,
    pub fanout: Arc<Fanout>,
    pub exited: ExitWatch,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    pub fn resize(&self, size: Size) -> Outcome<()> {
        match self.terminal() {
            Some(pty) => {
                pty.resize(size)?;
                self.fanout.resize(size);
                Ok(())
            }
            None => Err(Fault::new(Reason::NoPty, "the process has no terminal to resize")),
        }
    }

    pub fn terminal(&self) -> Option<&Pty> {
        match &self.input {
            Input::Pty(pty, _) => Some(pty),
            Input::Pipe(_) => None,
        }
    }

    pub async fn exit(&self) -> Exit {
        let mut exited = self.exited.clone();
        match exited.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(exit)) => *exit,
            // The sender lives until it has sent; what else happened ended the agent's knowledge of it.
            _ => Exit::Signal { number: libc::SIGKILL, dumped_core: false },
        }
    }
}

/// All processes, and all children that are not reaped yet.
pub struct Processes {
    pub children: Children,
    pub freezer: Arc<Freezer>,
    table: Mutex<Table>,
}

/// Both oldest first.
#[derive(Default)]
struct Table {
    live: Vec<Arc<Running>>,
    ended: VecDeque<Arc<Ended>>,
}

impl Table {
    /// The oldest go first, the newest never: it may be all that its client waits for.
    fn bound_the_ended(&mut self) {
        let kept = |ended: &VecDeque<Arc<Ended>>| ended.iter().map(|r| r.fanout.kept_bytes()).sum::<usize>();
        while self.ended.len() > ENDED || (self.ended.len() > 1 && kept(&self.ended) > ENDED_BYTES) {
            self.ended.pop_front();
        }
    }
}

impl Processes {
    pub fn new(freezer: Freezer) -> Self {
        Self { children: Children::default(), freezer: Arc::new(freezer), table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that run.
    pub fn list(&self) -> Vec<Arc<Running>> {
        self.table().live.clone()
    }

    pub fn add(&self, running: Arc<Running>) {
        self.table().live.push(running);
    }

    /// From now on it can only be read, until it is forgotten.
    pub fn end(&self, running: &Arc<Running>) -> Arc<Ended> {
        let Running { tag, fanout, .. } = &**running;
        let ended = Arc::new(Ended { pid: running.pid(), tag: tag.clone(), fanout: fanout.clone() });
        let mut table = self.table();
        table.live.retain(|r| !Arc::ptr_eq(r, running));
        table.ended.push_back(ended.clone());
        table.bound_the_ended();
        ended
    }

    pub fn forget(&self, ended: &Weak<Ended>) {
        self.table().ended.retain(|e| Arc::as_ptr(e) != ended.as_ptr());
    }

    /// One that runs.
    pub fn find(&self, selector: &Selector) -> Outcome<Arc<Running>> {
        let table = self.table();
        let mut newest_first = table.live.iter().rev();
        newest_first.find(|r| selector.means(r.pid(), r.tag.as_ref())).cloned().ok_or_else(|| selector.missed())
    }

    /// The pid and output of one that runs, else of one that ended not long ago.
    pub fn find_to_read(&self, selector: &Selector) -> Outcome<(u32, Arc<Fanout>)> {
        if let Ok(running) = self.find(selector) {
            return Ok((running.pid(), running.fanout.clone()));
        }
        let table = self.table();
        let mut newest_first = table.ended.iter().rev();
        let ended = newest_first.find(|e| selector.means(e.pid, e.tag.as_ref())).ok_or_else(|| selector.missed())?;
        Ok((ended.pid, ended.fanout.clone()))
    }

    /// To its whole group.
    pub fn signal(&self, running: &Running, number: i32) -> Outcome<()> {
        self.children.signal_group(running.pid, &running.exited, number)
    }

    /// To whatever runs in the foreground of its terminal, as keys send it.
    pub fn signal_foreground(&self, running: &Running, number: i32) -> Outcome<()> {
        let pty = running.terminal();
        let pty = pty.ok_or_else(|| Fault::new(Reason::NoPty, "the process has no terminal, so no foreground"))?;
        let group = pty.foreground().filter(|group| *group != running.pid);
        // SAFETY: kill takes two integers and touches no memory of ours.
        match group.map(|group| Errno::result(unsafe { libc::kill(-group.as_raw(), number) })) {
            Some(Ok(_)) => Ok(()),
            // None is there, or it has just ended: then the session's leader is.
            _ => self.signal(running, number),
        }
    }
}

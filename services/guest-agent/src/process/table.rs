//! The processes that were started here and have not been told ended yet.

use super::children::{Children, Exit, ExitWatch};
use super::fanout::Fanout;
use super::input::Input;
use super::pty::{Pty, Size};
use crate::fault::{Fault, Outcome, Reason};
use crate::proto::process::ProcessConfig;
use nix::unistd::Pid;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names one process. Of several with the same name the newest is meant.
#[derive(Debug, Clone)]
pub enum Selector {
    Pid(u32),
    Tag(String),
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
            Some(pty) => pty.resize(size),
            None => Err(Fault::new(Reason::NoPty, "the process has no terminal to resize")),
        }
    }

    fn terminal(&self) -> Option<&Pty> {
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
#[derive(Default)]
pub struct Processes {
    pub children: Children,
    /// Oldest first.
    live: Mutex<Vec<Arc<Running>>>,
}

impl Processes {
    fn live(&self) -> MutexGuard<'_, Vec<Arc<Running>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn list(&self) -> Vec<Arc<Running>> {
        self.live().clone()
    }

    pub fn add(&self, running: Arc<Running>) {
        self.live().push(running);
    }

    pub fn remove(&self, running: &Arc<Running>) {
        self.live().retain(|r| !Arc::ptr_eq(r, running));
    }

    pub fn find(&self, selector: &Selector) -> Outcome<Arc<Running>> {
        let is_meant = |r: &&Arc<Running>| match selector {
            Selector::Pid(pid) => r.pid() == *pid,
            Selector::Tag(tag) => r.tag.as_ref() == Some(tag),
        };
        self.live().iter().rev().find(is_meant).cloned().ok_or_else(|| {
            let name = match selector {
                Selector::Pid(pid) => format!("pid {pid}"),
                Selector::Tag(tag) => format!("tag {tag:?}"),
            };
            Fault::new(Reason::ProcessNotFound, format!("no running process has {name}"))
        })
    }

    /// To its whole group.
    pub fn signal(&self, running: &Running, number: i32) -> Outcome<()> {
        self.children.signal_group(running.pid, &running.exited, number)
    }
}

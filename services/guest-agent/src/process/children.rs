//! The one owner of waitpid. A child is entered into the table under the same lock that its fork holds
//! and that reaping takes, so no exit status can be lost, stolen or given to a reused pid.

use crate::fault::{Fault, Outcome, Reason};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal { number: i32, dumped_core: bool },
}

/// Resolves to the exit once the child is reaped.
pub type ExitWatch = watch::Receiver<Option<Exit>>;

#[derive(Default)]
pub struct Children {
    live: Mutex<HashMap<Pid, watch::Sender<Option<Exit>>>>,
}

impl Children {
    fn live(&self) -> MutexGuard<'_, HashMap<Pid, watch::Sender<Option<Exit>>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `fork`, which returns the child's pid in the parent, and registers that child.
    pub fn fork(&self, fork: impl FnOnce() -> nix::Result<Pid>) -> nix::Result<(Pid, ExitWatch)> {
        let mut live = self.live();
        let pid = fork()?;
        let (exited, watch) = watch::channel(None);
        live.insert(pid, exited);
        Ok((pid, watch))
    }

    /// Reaps all that can be reaped now: own children get their status delivered, orphans just vanish.
    pub fn reap(&self) {
        let mut live = self.live();
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, dumped_core)) => {
                    (pid, Exit::Signal { number: signal as i32, dumped_core })
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                // A real-time signal that nix has no name for: the status is consumed all the same.
                Ok(_) | Err(Errno::EINTR | Errno::EINVAL) => continue,
                Err(_) => return,
            };
            if let Some(exited) = live.remove(&pid) {
                exited.send_replace(Some(exit));
            }
        }
    }

    /// Signals the process group of a child that is not reaped yet, so never a stranger's.
    pub fn signal_group(&self, pid: Pid, number: i32) -> Outcome<()> {
        let live = self.live();
        let gone = || Fault::new(Reason::ProcessNotFound, format!("process {pid} has ended"));
        if !live.contains_key(&pid) {
            return Err(gone());
        }
        // SAFETY: kill takes two integers and touches no memory of ours.
        match Errno::result(unsafe { libc::kill(-pid.as_raw(), number) }) {
            Ok(_) => Ok(()),
            Err(Errno::EINVAL) => Err(Fault::new(Reason::BadSignal, format!("signal {number} does not exist"))),
            Err(Errno::ESRCH) => Err(gone()),
            Err(e) => Err(Fault::internal("kill", e)),
        }
    }
}

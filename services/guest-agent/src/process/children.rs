//! The one owner of waitpid. A child is entered into the table under the same lock that its fork holds
//! and that reaping takes, so no exit status can be lost, stolen or given to a reused pid.

use crate::fault::{Fault, Outcome, Reason};
use nix::errno::Errno;
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

impl Exit {
    fn of(status: libc::c_int) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal { number: libc::WTERMSIG(status), dumped_core: libc::WCOREDUMP(status) }
        } else {
            Self::Code(libc::WEXITSTATUS(status))
        }
    }
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
            let mut status = 0;
            // The raw call: nix consumes, but does not tell, a death by a real-time signal.
            // SAFETY: waitpid writes one int.
            let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
            match Errno::result(pid) {
                Ok(0) => return,
                Ok(pid) => {
                    if let Some(exited) = live.remove(&Pid::from_raw(pid)) {
                        exited.send_replace(Some(Exit::of(status)));
                    }
                }
                Err(Errno::EINTR) => {}
                Err(_no_child) => return,
            }
        }
    }

    /// Signals the process group of a child that is not reaped yet, so never a stranger's.
    pub fn signal_group(&self, pid: Pid, exited: &ExitWatch, number: i32) -> Outcome<()> {
        let gone = || Fault::new(Reason::ProcessNotFound, format!("process {pid} has ended"));
        // Reaping takes the lock too: while it is held and the exit unknown, the pid is still this child's.
        let _no_reaping = self.live();
        if exited.borrow().is_some() {
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

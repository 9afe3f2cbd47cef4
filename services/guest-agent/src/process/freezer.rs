//! Holds every process but the agent, so that nobody runs between a restore and the moment when clock, identity
//! and randomness are this guest's own. All that the agent starts is born into one control group, which the
//! kernel freezes whole. A guest without control groups, or a process that root moved elsewhere, is not held.

use crate::console::say;
use crate::fault::{Fault, Outcome};
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const GROUP: &str = "/sys/fs/cgroup/sandbox";
/// The kernel stops a task when it next leaves a system call; one that sleeps uninterruptibly keeps it waiting.
const LIMIT: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_micros(500);
/// Of the guest's own time: nobody comes to end it any more.
const LONGEST: Duration = Duration::from_secs(10);

pub struct Freezer {
    /// The group's directory, into which children are born; none where there is no group.
    group: Option<File>,
    holds: AtomicU64,
    switch: Mutex<()>,
}

impl Freezer {
    /// In a guest: makes the group.
    pub fn in_guest() -> Self {
        let group = fs::create_dir_all(GROUP).and_then(|()| File::open(GROUP));
        if let Err(e) = &group {
            say(format_args!("no group of processes that can be frozen: {e}"));
        }
        Self { group: group.ok(), ..Self::absent() }
    }

    /// On a host, for tests.
    pub fn absent() -> Self {
        Self { group: None, holds: AtomicU64::new(0), switch: Mutex::default() }
    }

    pub fn group(&self) -> Option<BorrowedFd<'_>> {
        self.group.as_ref().map(File::as_fd)
    }

    /// Returns once every process stands still. After `LONGEST` they go on by themselves.
    pub async fn hold(self: &std::sync::Arc<Self>) -> Outcome<()> {
        if self.group.is_none() {
            return Ok(());
        }
        let hold = self.holds.fetch_add(1, Ordering::SeqCst) + 1;
        self.set("1")?;
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LONGEST).await;
            if this.holds.load(Ordering::SeqCst) == hold {
                say(format_args!("held for {} s and not initialised: processes go on", LONGEST.as_secs()));
                this.release();
            }
        });
        let stands_still = async {
            while !fs::read_to_string(format!("{GROUP}/cgroup.events")).is_ok_and(|s| s.contains("frozen 1")) {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(LIMIT, stands_still).await.is_err() {
            self.release();
            return Err(Fault::internal("hold the processes", "one does not stop"));
        }
        Ok(())
    }

    /// Idempotent.
    pub fn release(&self) {
        if self.group.is_none() {
            return;
        }
        self.holds.fetch_add(1, Ordering::SeqCst);
        if let Err(fault) = self.set("0") {
            say(fault.message);
        }
    }

    fn set(&self, value: &str) -> Outcome<()> {
        let _one_at_a_time = self.switch.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        fs::write(format!("{GROUP}/cgroup.freeze"), value).map_err(|e| Fault::internal("hold the processes", e))
    }
}

//! Starts a process: its first subscriber joins before the fork, and its end is told after all its output.

use super::fanout::{Channel, Fanout, Subscription};
use super::input::Input;
use super::pty::{Pty, Size};
use super::reader::{Source, pump};
use super::spawn::{Command, Stdio, no_process};
use super::table::{Processes, Running};
use crate::fault::{Fault, Outcome};
use crate::proto::process::ProcessConfig;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::Mutex;

/// How long one that ended can still be read.
const REMEMBERED: Duration = Duration::from_secs(60);

pub struct Launch {
    /// As it was asked for; listed back.
    pub config: ProcessConfig,
    pub command: Command,
    pub tag: Option<String>,
    /// Some: one terminal instead of three pipes.
    pub terminal: Option<Size>,
    /// False: stdin is /dev/null.
    pub wants_stdin: bool,
    /// After which its whole group is killed.
    pub time_limit: Option<Duration>,
}

/// The agent's ends of what the child has as 0, 1 and 2.
struct Ends {
    input: Input,
    sources: Vec<Source>,
}

impl Processes {
    /// Returns once the program runs, with a subscription that sees all it writes.
    pub async fn start(self: &Arc<Self>, launch: Launch) -> Outcome<(Arc<Running>, Subscription)> {
        // On a task of its own: a caller who leaves half-way must not leave a process that nobody follows.
        let this = self.clone();
        let started = tokio::spawn(async move { this.launch(launch).await });
        started.await.unwrap_or_else(|e| Err(Fault::internal("start", e)))
    }

    async fn launch(self: Arc<Self>, launch: Launch) -> Outcome<(Arc<Running>, Subscription)> {
        let (stdio, ends) = match launch.terminal {
            Some(size) => terminal(size, &launch)?,
            None => pipes(launch.wants_stdin)?,
        };
        let fanout = Arc::new(launch.terminal.map_or_else(Fanout::default, Fanout::of_terminal));
        let subscription = fanout.subscribe(None).map_err(|_| Fault::internal("subscribe", "the log is gone"))?;
        let spawned = launch.command.spawn(stdio, &self.children, self.freezer.group())?;
        let (pid, exited) = (spawned.pid, spawned.exited.clone());
        launch.command.check(spawned).await?;
        let running =
            Arc::new(Running { pid, config: launch.config, tag: launch.tag, input: ends.input, fanout, exited });
        self.add(running.clone());
        if let Some(limit) = launch.time_limit {
            tokio::spawn(self.clone().kill_after(limit, running.clone()));
        }
        tokio::spawn(self.follow(running.clone(), ends.sources));
        Ok((running, subscription))
    }

    async fn follow(self: Arc<Self>, running: Arc<Running>, sources: Vec<Source>) {
        let pumps = sources.into_iter().map(|s| pump(s, running.fanout.clone(), running.exited.clone()));
        futures::future::join_all(pumps).await;
        let exit = running.exit().await;
        let ended = Arc::downgrade(&self.end(&running));
        running.fanout.finish(exit);
        // Its descriptors close now, and the bounds of what ended may forget it before its time.
        drop(running);
        tokio::time::sleep(REMEMBERED).await;
        self.forget(&ended);
    }

    async fn kill_after(self: Arc<Self>, limit: Duration, running: Arc<Running>) {
        if tokio::time::timeout(limit, running.exit()).await.is_err() {
            // It may end by itself in this very moment.
            let _ = self.signal(&running, libc::SIGKILL);
        }
    }
}

fn terminal(size: Size, launch: &Launch) -> Outcome<(Stdio, Ends)> {
    let (pty, slave) = Pty::open(size, &launch.command.user)?;
    let pty = Arc::new(pty);
    let copy = || slave.try_clone().map_err(|e| no_process(Errno::from_raw(e.raw_os_error().unwrap_or(0))));
    let stdio = Stdio { fds: [copy()?, copy()?, copy()?], is_terminal: true };
    Ok((stdio, Ends { input: Input::Pty(pty.clone(), Mutex::default()), sources: vec![Source::Pty(pty)] }))
}

fn pipes(wants_stdin: bool) -> Outcome<(Stdio, Ends)> {
    let broken = |e| Fault::internal("watch a pipe", e);
    let (stdin, input) = match wants_stdin {
        true => {
            let (theirs, ours) = pipe2(OFlag::O_CLOEXEC).map_err(no_process)?;
            (theirs, Some(pipe::Sender::from_owned_fd(ours).map_err(broken)?))
        }
        false => (open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(no_process)?, None),
    };
    let output = |channel: Channel| -> Outcome<(OwnedFd, Source)> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(no_process)?;
        Ok((theirs, Source::Pipe(pipe::Receiver::from_owned_fd(ours).map_err(broken)?, channel)))
    };
    let (stdout, out) = output(Channel::Stdout)?;
    let (stderr, err) = output(Channel::Stderr)?;
    let stdio = Stdio { fds: [stdin, stdout, stderr], is_terminal: false };
    Ok((stdio, Ends { input: Input::Pipe(Mutex::new(input)), sources: vec![out, err] }))
}

//! fork and execve. Everything the child needs is made before the fork; between fork and exec it makes
//! system calls only, since another thread of the agent may have held the allocator's lock.

use super::children::{Children, ExitWatch};
use crate::env::Env;
use crate::fault::{Fault, Outcome, Reason};
use crate::users::User;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::ptr;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// What to run and as whom; strings are free of NUL bytes once `prepare` accepted them.
pub struct Command {
    pub program: String,
    pub args: Vec<String>,
    pub env: Env,
    pub cwd: PathBuf,
    pub user: User,
}

/// The child's descriptors 0, 1 and 2.
pub struct Stdio {
    pub fds: [OwnedFd; 3],
    pub is_terminal: bool,
}

/// Descriptors that a program may open unless it asks for more; what it may ask for is the agent's own limit.
const OPEN_FILES: libc::rlim_t = 65_536;

/// Of linux/sched.h; the constant of libc is a C int, which cannot hold it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Ready to be executed without another allocation.
struct Prepared {
    programs: Vec<CString>,
    argv: Vec<CString>,
    envp: Vec<CString>,
    cwd: CString,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Step {
    Session,
    Terminal,
    Stdio,
    Identity,
    Cwd,
    Exec,
}

const STEPS: [Step; 6] = [Step::Session, Step::Terminal, Step::Stdio, Step::Identity, Step::Cwd, Step::Exec];

/// A child whose exec has succeeded or not: `result` says which.
pub struct Spawned {
    pub pid: Pid,
    pub exited: ExitWatch,
    result: pipe::Receiver,
}

impl Command {
    /// Forks. The descriptors of `stdio` are closed here once the child has them. `group` is the directory of a
    /// control group for it.
    pub fn spawn(&self, stdio: Stdio, children: &Children, group: Option<BorrowedFd<'_>>) -> Outcome<Spawned> {
        let prepared = self.prepare()?;
        let argv = pointers(&prepared.argv);
        let envp = pointers(&prepared.envp);
        let (result, report) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(no_process)?;
        let result = pipe::Receiver::from_owned_fd(result).map_err(|e| Fault::internal("watch a pipe", e))?;
        let fds = [stdio.fds[0].as_raw_fd(), stdio.fds[1].as_raw_fd(), stdio.fds[2].as_raw_fd()];
        let (pid, exited) = children
            .fork(|| {
                // SAFETY: the child calls only `run`, which is free of allocation and locks, and never returns.
                match unsafe { fork(group) }? {
                    // SAFETY: this is the forked child; the vectors were made before and end in null.
                    None => unsafe { prepared.run(&argv, &envp, fds, stdio.is_terminal, report.as_raw_fd()) },
                    Some(pid) => Ok(pid),
                }
            })
            .map_err(no_process)?;
        Ok(Spawned { pid, exited, result })
    }

    fn prepare(&self) -> Outcome<Prepared> {
        let bad = |what: &str| Fault::new(Reason::BadCommand, format!("{what} holds a NUL byte"));
        if self.program.is_empty() {
            return Err(Fault::new(Reason::BadCommand, "the command is empty"));
        }
        let text = |s: &str, what: &str| CString::new(s).map_err(|_| bad(what));
        let mut argv = vec![text(&self.program, "the command")?];
        for arg in &self.args {
            argv.push(text(arg, "an argument")?);
        }
        let envp =
            self.env.iter().map(|(k, v)| text(&format!("{k}={v}"), "the environment")).collect::<Outcome<_>>()?;
        let programs = if self.program.contains('/') {
            vec![argv[0].clone()]
        } else {
            let path = self.env.get("PATH").map_or("", String::as_str);
            let dirs = path.split(':').map(|dir| if dir.is_empty() { "." } else { dir });
            dirs.map(|dir| text(&format!("{dir}/{}", self.program), "PATH")).collect::<Outcome<_>>()?
        };
        let cwd = CString::new(self.cwd.as_os_str().as_bytes()).map_err(|_| bad("the directory"))?;
        let User { uid, gid, ref groups, .. } = self.user;
        Ok(Prepared { programs, argv, envp, cwd, uid, gid, groups: groups.clone() })
    }

    /// What the child's failed step means to the caller.
    fn failure(&self, step: Step, errno: Errno) -> Fault {
        let (program, cwd) = (&self.program, self.cwd.display());
        let (reason, message) = match (step, errno) {
            (_, Errno::EAGAIN | Errno::ENOMEM | Errno::ENFILE) => {
                (Reason::NoProcessLeft, format!("no process left: {}", errno.desc()))
            }
            (Step::Cwd, Errno::EACCES | Errno::EPERM) => {
                (Reason::CwdNotPermitted, format!("user {} may not enter directory {cwd}", self.user.name))
            }
            (Step::Cwd, _) => (Reason::BadCwd, format!("directory {cwd} cannot be entered: {}", errno.desc())),
            (Step::Exec, Errno::ENOENT | Errno::ENOTDIR) => (
                Reason::CommandNotFound,
                format!("command {program:?} was not found, or the interpreter it names was not"),
            ),
            (Step::Exec, Errno::EACCES | Errno::EPERM) => (
                Reason::CommandNotPermitted,
                format!("command {program:?} may not be executed by user {}", self.user.name),
            ),
            (Step::Exec, Errno::ENOEXEC | Errno::EISDIR | Errno::ETXTBSY | Errno::ELIBBAD | Errno::ELOOP) => {
                (Reason::CommandNotExecutable, format!("command {program:?} is not executable: {}", errno.desc()))
            }
            (Step::Exec, Errno::E2BIG) => (Reason::BadCommand, "the arguments and environment are too long".to_owned()),
            _ => (Reason::Internal, format!("step {} before exec failed: {}", step as u8, errno.desc())),
        };
        Fault::new(reason, message)
    }

    /// Tells whether the child runs the program, once it does or has failed.
    pub async fn check(&self, mut spawned: Spawned) -> Outcome<()> {
        let mut report = [0; 5];
        match spawned.result.read_exact(&mut report).await.map(drop) {
            // End of file: exec closed the pipe.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
            Err(e) => Err(Fault::internal("exec report", e)),
            Ok(()) => {
                let step = STEPS.into_iter().find(|s| *s as u8 == report[0]).unwrap_or(Step::Exec);
                let errno = i32::from_ne_bytes([report[1], report[2], report[3], report[4]]);
                Err(self.failure(step, Errno::from_raw(errno)))
            }
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

pub fn no_process(errno: Errno) -> Fault {
    match errno {
        Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE => Fault::new(
            Reason::NoProcessLeft,
            format!("the sandbox has no process or descriptor left: {}", errno.desc()),
        ),
        _ => Fault::internal("fork", errno),
    }
}

/// The child is as mortal and as patient as any program, and gets a sensible number of descriptors. A guest that
/// forbids any of it still runs programs.
///
/// # Safety
/// Only in a forked child, before it gives up root.
unsafe fn no_longer_protected() {
    // SAFETY: plain system calls on integers and constants.
    unsafe {
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        libc::write(fd, c"0".as_ptr().cast(), 1);
        libc::close(fd);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        let mut files: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut files) == 0 {
            files.rlim_cur = files.rlim_max.min(OPEN_FILES);
            libc::setrlimit(libc::RLIMIT_NOFILE, &files);
        }
    }
}

/// Returns the child's pid, and in the child none. A child that cannot be born into `group` is born outside.
///
/// Moving it in by a write to `cgroup.procs` would make it wait for a grace period of the kernel's RCU: some 20 ms.
///
/// # Safety
/// The child may only make system calls until it executes another program.
unsafe fn fork(group: Option<BorrowedFd<'_>>) -> nix::Result<Option<Pid>> {
    // SAFETY: for all of clone_args, zero means none.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = group {
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: the kernel reads the arguments; without CLONE_VM both go on with stacks of their own.
    let forked = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of_val(&args)) };
    match Errno::result(forked) {
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some(Pid::from_raw(pid as i32))),
        // SAFETY: as asked of the caller.
        Err(_) if group.is_some() => unsafe { fork(None) },
        Err(errno) => Err(errno),
    }
}

impl Prepared {
    /// The child's life up to exec.
    ///
    /// # Safety
    /// Only in a forked child; `argv` and `envp` are null-terminated and outlive the call.
    unsafe fn run(
        &self,
        argv: &[*const libc::c_char],
        envp: &[*const libc::c_char],
        fds: [RawFd; 3],
        is_terminal: bool,
        report: RawFd,
    ) -> ! {
        // SAFETY: plain system calls on integers and on memory prepared by the parent.
        unsafe {
            let (step, errno) = match self.become_program(argv, envp, fds, is_terminal) {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            let mut message = [step as u8, 0, 0, 0, 0];
            message[1..].copy_from_slice(&(errno as i32).to_ne_bytes());
            libc::write(report, message.as_ptr().cast(), message.len());
            libc::_exit(127)
        }
    }

    /// # Safety
    /// As `run`.
    unsafe fn become_program(
        &self,
        argv: &[*const libc::c_char],
        envp: &[*const libc::c_char],
        fds: [RawFd; 3],
        is_terminal: bool,
    ) -> Result<std::convert::Infallible, (Step, Errno)> {
        let at = |step: Step| move |errno: Errno| (step, errno);
        // SAFETY: as for `run`; pointers are to live, null-terminated memory.
        unsafe {
            // The agent ignores SIGPIPE and may have been started with others ignored; exec would pass that on.
            // By the raw call, since glibc hides two of the signals.
            let default = [0u64; 4];
            for signal in 1..=64 {
                libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<u64>(), 8);
            }
            no_longer_protected();
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
            Errno::result(libc::setsid()).map_err(at(Step::Session))?;
            if is_terminal {
                Errno::result(libc::ioctl(fds[0], libc::TIOCSCTTY, 0)).map_err(at(Step::Terminal))?;
            }
            for (target, fd) in fds.into_iter().enumerate() {
                Errno::result(libc::dup2(fd, target as RawFd)).map_err(at(Step::Stdio))?;
            }
            // The raw calls change this thread alone, and the forked child has no other.
            if libc::geteuid() == 0 {
                let groups = libc::syscall(libc::SYS_setgroups, self.groups.len(), self.groups.as_ptr());
                Errno::result(groups).map_err(at(Step::Identity))?;
                Errno::result(libc::syscall(libc::SYS_setresgid, self.gid, self.gid, self.gid))
                    .map_err(at(Step::Identity))?;
                Errno::result(libc::syscall(libc::SYS_setresuid, self.uid, self.uid, self.uid))
                    .map_err(at(Step::Identity))?;
            }
            libc::umask(0o022);
            Errno::result(libc::chdir(self.cwd.as_ptr())).map_err(at(Step::Cwd))?;
            // As a shell does: go on past a directory of PATH that lacks the program or forbids it.
            let mut failure = Errno::ENOENT;
            for program in &self.programs {
                libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr());
                match Errno::last() {
                    Errno::ENOENT | Errno::ENOTDIR => {}
                    Errno::EACCES => failure = Errno::EACCES,
                    errno => return Err((Step::Exec, errno)),
                }
            }
            Err((Step::Exec, failure))
        }
    }
}

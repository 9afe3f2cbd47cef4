//! Children of a test: none outlives it, and none is waited for without end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(30);
/// Above all that a test has open itself.
const FIRST_PASSED: RawFd = 500;

/// Files passed to a child under numbers that its arguments name.
#[derive(Default)]
pub struct Passed(Vec<File>);

impl Passed {
    pub fn pass(&mut self, file: File) -> String {
        self.0.push(file);
        (FIRST_PASSED + self.0.len() as RawFd - 1).to_string()
    }

    pub fn give(self, command: &mut Command) {
        let pairs: Vec<_> = self.0.iter().map(AsRawFd::as_raw_fd).zip(FIRST_PASSED..).collect();
        let keep = self.0;
        let give = move || {
            let _open_until_here = &keep;
            for (from, to) in &pairs {
                // SAFETY: dup2 takes two numbers, and is allowed between fork and exec.
                if unsafe { libc::dup2(*from, *to) } < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls only.
        unsafe { command.pre_exec(give) };
    }
}

pub struct Process {
    pub child: Child,
    lines: Receiver<String>,
    errors: Option<thread::JoinHandle<String>>,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Process {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let errors = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Process { child, lines, errors: Some(errors) }
    }

    /// The next line of its stdout.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line in time")
    }

    /// Whether it says nothing for so long.
    pub fn is_silent(&self, during: Duration) -> bool {
        matches!(self.lines.recv_timeout(during), Err(RecvTimeoutError::Timeout))
    }

    /// What is left of its stdout, once it has ended.
    pub fn rest(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "a child ends in time");
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn code(&mut self) -> i32 {
        self.wait().code().unwrap_or(-1)
    }

    /// What ended it.
    pub fn signal(&mut self) -> i32 {
        self.wait().signal().unwrap_or(-1)
    }

    pub fn signal_it(&self, signal: i32) {
        // SAFETY: the child has not been waited for: the number is still its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Its stderr, once it has ended.
    pub fn errors(&mut self) -> String {
        self.wait();
        self.errors.take().unwrap().join().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}, in time");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What cargo builds beside the tests.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let found = [profile.join("deps").join(name), profile.join(name)].into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not built: run all tests, or cargo build --examples first"))
}

pub fn userfaultfd() -> File {
    File::options().read(true).write(true).open("/dev/userfaultfd").unwrap()
}

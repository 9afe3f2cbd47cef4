//! A pager as vm-runtime starts it.

use super::process::{Passed, Process, eventually};
use super::snapshot::Snapshot;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Error, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

pub struct Pager {
    pub process: Process,
    pub socket: PathBuf,
    pub record: PathBuf,
}

#[derive(Default)]
pub struct Options {
    pub working_set: Option<Vec<u8>>,
    pub is_eager: bool,
    /// Its stdout takes nothing.
    pub is_mute: bool,
    /// Runs as this user.
    pub uid: Option<u32>,
    pub traceparent: Option<&'static str>,
}

impl Pager {
    /// It listens.
    pub fn serving(snapshot: &Snapshot, options: Options) -> Pager {
        let pager = Pager::start(snapshot, options);
        assert_eq!(pager.event()["event"], "listening");
        pager
    }

    pub fn start(snapshot: &Snapshot, options: Options) -> Pager {
        let (socket, record) = (snapshot.place.at("pager"), snapshot.place.at("record"));
        let mut passed = Passed::default();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wrenn-pager"));
        command.arg("serve").arg("--listen").arg(&socket);
        command.arg("--header").arg(passed.pass(snapshot.open("memfile.header")));
        for file in snapshot.pass_files(&mut passed) {
            command.arg("--file").arg(file);
        }
        if let Some(content) = options.working_set {
            let path = snapshot.place.at("workingset");
            fs::write(&path, content).unwrap();
            command.arg("--working-set").arg(passed.pass(File::open(path).unwrap()));
        }
        command.arg("--record").arg(passed.pass(File::create(&record).unwrap()));
        if options.is_eager {
            command.arg("--eager");
        }
        passed.give(&mut command);
        if let Some(traceparent) = options.traceparent {
            command.env("TRACEPARENT", traceparent);
        }
        if let Some(uid) = options.uid {
            command.uid(uid).gid(uid);
        }
        if options.is_mute {
            let full = File::options().write(true).open("/dev/full").unwrap();
            // SAFETY: dup2 takes two numbers, and is allowed between fork and exec.
            unsafe {
                command.pre_exec(
                    move || if libc::dup2(full.as_raw_fd(), 1) < 0 { Err(Error::last_os_error()) } else { Ok(()) },
                )
            };
        }
        Pager { process: Process::spawn(&mut command), socket, record }
    }

    /// The next line that it says.
    pub fn event(&self) -> Value {
        serde_json::from_str(&self.process.line()).unwrap()
    }

    /// What it prefetched, once that is in place.
    pub fn prefetched(&self) -> u64 {
        let event = self.event();
        assert_eq!(event["event"], "prefetched", "{event}");
        event["pages"].as_u64().unwrap()
    }

    /// The reason and the message with which it gave up.
    pub fn fatal(&mut self) -> (String, String) {
        assert_eq!(self.process.code(), 3);
        let last = self.process.rest().pop().expect("a line");
        let event: Value = serde_json::from_str(&last).unwrap();
        assert_eq!(event["event"], "fatal", "{event}");
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        (text("reason"), text("message"))
    }

    pub fn stats(&self) -> Value {
        let mut path = self.socket.clone().into_os_string();
        path.push(".stats");
        let mut line = String::new();
        UnixStream::connect(path).unwrap().read_to_string(&mut line).unwrap();
        assert!(line.ends_with('\n'));
        serde_json::from_str(&line).unwrap()
    }

    pub fn faults(&self) -> u64 {
        self.stats()["faults"].as_u64().unwrap()
    }

    /// The working set that it left, once its VM has ended.
    pub fn left(&mut self) -> Vec<u8> {
        assert_eq!(self.process.code(), 0);
        eventually("its sockets are gone", || !self.socket.exists());
        fs::read(&self.record).unwrap()
    }
}

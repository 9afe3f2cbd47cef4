//! The stand-in for a VMM (examples/guest.rs) with the shim preloaded.

use super::process::{Passed, Process, built, userfaultfd};
use super::snapshot::Snapshot;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub struct Guest {
    pub process: Process,
}

/// The environment and descriptors of a program whose memory the pager shall fill.
pub fn lazily(command: &mut Command, passed: &mut Passed, ram: &Path, socket: &Path) {
    command.env("LD_PRELOAD", built("libwrenn_shim.so")).env("WRENN_SHIM", "uffd").env("WRENN_SHIM_RAM", ram);
    command.env("WRENN_SHIM_UFFD", passed.pass(userfaultfd())).env("WRENN_SHIM_SOCKET", socket);
}

/// Those of a program whose memory shall lie on the snapshot's files.
pub fn mapped(command: &mut Command, passed: &mut Passed, ram: &Path, snapshot: &Snapshot) {
    command.env("LD_PRELOAD", built("libwrenn_shim.so")).env("WRENN_SHIM", "map").env("WRENN_SHIM_RAM", ram);
    command.env("WRENN_SHIM_HEADER", passed.pass(snapshot.open("memfile.header")));
    let files: Vec<_> = (0..snapshot.header.builds.len())
        .map(|build| passed.pass(File::open(snapshot.memfile(build)).unwrap()))
        .collect();
    command.env("WRENN_SHIM_FILES", files.join(",")).env("WRENN_SHIM_REPORT", snapshot.place.at("report"));
}

impl Guest {
    pub fn lazy(snapshot: &Snapshot, socket: &Path) -> Guest {
        Guest::start(snapshot, "shared", |command, passed, ram| lazily(command, passed, ram, socket))
    }

    pub fn mapped(snapshot: &Snapshot) -> Guest {
        Guest::start(snapshot, "shared", |command, passed, ram| mapped(command, passed, ram, snapshot))
    }

    /// Lazily, with its memory in another file than usual.
    pub fn with_ram(snapshot: &Snapshot, ram: &Path, socket: &Path) -> Guest {
        Guest::mapping(ram, snapshot, "shared", |command, passed, ram| lazily(command, passed, ram, socket))
    }

    pub fn start(snapshot: &Snapshot, how: &str, prepare: impl FnOnce(&mut Command, &mut Passed, &Path)) -> Guest {
        Guest::mapping(&snapshot.place.ram(snapshot.bytes()), snapshot, how, prepare)
    }

    fn mapping(
        ram: &Path,
        snapshot: &Snapshot,
        how: &str,
        prepare: impl FnOnce(&mut Command, &mut Passed, &Path),
    ) -> Guest {
        let mut command = Command::new(built("examples/guest"));
        let mut passed = Passed::default();
        command.arg(how).arg(ram).arg(snapshot.bytes().to_string());
        prepare(&mut command, &mut passed, ram);
        passed.give(&mut command);
        Guest { process: Process::spawn(&mut command) }
    }

    /// Private memory in two regions, and it tells which pages it gives back.
    pub fn as_firecracker(snapshot: &Snapshot, socket: &Path) -> Guest {
        let bytes = snapshot.bytes().to_string();
        Guest::with(userfaultfd(), |device| ["firecracker", text(socket), &bytes, device].map(str::to_owned).to_vec())
    }

    /// Sends its handshake byte by byte.
    pub fn in_pieces(snapshot: &Snapshot, socket: &Path) -> Guest {
        let bytes = snapshot.bytes().to_string();
        Guest::with(userfaultfd(), |device| ["pieces", text(socket), &bytes, device].map(str::to_owned).to_vec())
    }

    /// Says that, with so many descriptors: userfaultfds, if it is given the device.
    pub fn saying(socket: &Path, said: &str, count: usize, of: File) -> Guest {
        Guest::with(of, |fd| ["say", text(socket), fd, &count.to_string(), said].map(str::to_owned).to_vec())
    }

    fn with(file: File, args: impl FnOnce(&str) -> Vec<String>) -> Guest {
        let mut command = Command::new(built("examples/guest"));
        let mut passed = Passed::default();
        command.args(args(&passed.pass(file)));
        passed.give(&mut command);
        Guest { process: Process::spawn(&mut command) }
    }

    pub fn tell(&mut self, line: &str) {
        self.process.child.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.process.line()
    }

    pub fn sum(&mut self, first: usize, count: usize) -> String {
        self.ask(&format!("sum {first} {count}"))
    }

    pub fn waits(&self) -> bool {
        self.process.is_silent(Duration::from_millis(300))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

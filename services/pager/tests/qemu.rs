//! The real VMM with the shim, as vm-runtime starts it: another uid, no privilege, under seccomp.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use support::guest;
use support::pager::{Options, Pager};
use support::process::{Passed, Process, eventually};
use support::snapshot::Snapshot;

const NOBODY: u32 = 65_534;
const SIGKILL: i32 = 9;
/// 32 MiB.
const BLOCKS: usize = 8192;
/// Where the firmware covers memory.
const FIRMWARE: std::ops::Range<usize> = 0xE0..0x100;

struct Qemu {
    process: Process,
    qmp: BufReader<UnixStream>,
}

impl Qemu {
    fn start(snapshot: &Snapshot, prepare: impl FnOnce(&mut Command, &mut Passed, &Path)) -> Qemu {
        let (ram, socket) = (snapshot.place.ram(snapshot.bytes()), snapshot.place.at("qmp"));
        chown(&ram, Some(NOBODY), Some(NOBODY)).unwrap();
        let mut command = Command::new("qemu-system-x86_64");
        let (bytes, path) = (snapshot.bytes(), ram.display());
        command
            .args(["-M", "microvm,memory-backend=ram", "-accel", "tcg", "-m", &format!("{bytes}B")])
            .args(["-object", &format!("memory-backend-file,id=ram,size={bytes},mem-path={path},share=on")])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-S"])
            .args(["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", socket.display())])
            .env_clear()
            .uid(NOBODY)
            .gid(NOBODY);
        let mut passed = Passed::default();
        prepare(&mut command, &mut passed, &ram);
        passed.give(&mut command);
        let mut process = Process::spawn(&mut command);
        let mut stream = None;
        eventually("QEMU listens", || {
            if let Some(status) = process.child.try_wait().unwrap() {
                panic!("QEMU ended with {status}: {}", process.errors());
            }
            stream = UnixStream::connect(&socket).ok();
            stream.is_some()
        });
        let mut qemu = Qemu { process, qmp: BufReader::new(stream.unwrap()) };
        qemu.qmp.read_line(&mut String::new()).unwrap();
        qemu.execute("qmp_capabilities", json!({}));
        qemu
    }

    fn send(&mut self, command: &str, arguments: Value) {
        let line = json!({ "execute": command, "arguments": arguments });
        self.qmp.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn execute(&mut self, command: &str, arguments: Value) {
        self.send(command, arguments);
        let mut line = String::new();
        while !line.contains("\"return\"") {
            line.clear();
            assert!(self.qmp.read_line(&mut line).unwrap() > 0, "QEMU answers");
            assert!(!line.contains("\"error\""), "{line}");
        }
    }

    /// The guest's memory as QEMU sees it.
    fn memory(&mut self, snapshot: &Snapshot) -> Vec<u8> {
        let path = snapshot.place.at("physical");
        let size = snapshot.bytes();
        self.execute("pmemsave", json!({ "val": 0, "size": size, "filename": path.to_str().unwrap() }));
        fs::read(path).unwrap()
    }
}

fn snapshot_for_nobody(seed: u64) -> Snapshot {
    let snapshot = Snapshot::chain(seed, BLOCKS, 3);
    chown(snapshot.place.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    snapshot
}

fn assert_is(found: &[u8], snapshot: &Snapshot) {
    let pairs = found.chunks(4096).zip(snapshot.memory.chunks(4096)).enumerate();
    for (block, (found, expected)) in pairs.filter(|(block, _)| !FIRMWARE.contains(block)) {
        assert!(found == expected, "block {block}");
    }
}

#[test]
fn qemu_reads_the_snapshot_through_the_pager() {
    let snapshot = snapshot_for_nobody(60);
    let mut pager = Pager::serving(&snapshot, Options { uid: Some(NOBODY), ..Options::default() });
    let socket = pager.socket.clone();
    let mut qemu = Qemu::start(&snapshot, |command, passed, ram| guest::lazily(command, passed, ram, &socket));
    pager.prefetched();
    assert_is(&qemu.memory(&snapshot), &snapshot);
    assert!(pager.faults() > 300, "{}", pager.faults());
    let maps = fs::read_to_string(format!("/proc/{}/maps", qemu.process.child.id())).unwrap();
    assert!(maps.contains("/ram"));
    qemu.process.kill();
    pager.left();
}

#[test]
fn qemu_reads_the_snapshot_from_its_own_files() {
    let snapshot = snapshot_for_nobody(61);
    let mut qemu = Qemu::start(&snapshot, |command, passed, ram| guest::mapped(command, passed, ram, &snapshot));
    assert_is(&qemu.memory(&snapshot), &snapshot);
    let address = fs::read_to_string(snapshot.place.at("report")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{}/maps", qemu.process.child.id())).unwrap();
    assert!(maps.contains(address.trim_end()) && maps.contains("/memfile.") && !maps.contains("/ram"));
}

#[test]
fn a_damaged_page_ends_qemu_before_it_sees_it() {
    let snapshot = snapshot_for_nobody(62);
    let (_, offset) = snapshot.stored_block(1);
    OpenOptions::new().write(true).open(snapshot.memfile(1)).unwrap().write_all_at(b"!", offset + 7).unwrap();
    let mut pager = Pager::serving(&snapshot, Options { uid: Some(NOBODY), ..Options::default() });
    let socket = pager.socket.clone();
    let mut qemu = Qemu::start(&snapshot, |command, passed, ram| guest::lazily(command, passed, ram, &socket));
    let path = snapshot.place.at("physical");
    let size = snapshot.bytes();
    qemu.send("pmemsave", json!({ "val": 0, "size": size, "filename": path.to_str().unwrap() }));
    assert_eq!(qemu.process.signal(), SIGKILL);
    assert_eq!(pager.fatal().0, "SNAPSHOT_CORRUPT");
}

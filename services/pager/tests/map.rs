//! The shim's `map`, and the dump of what a guest changed in such memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use support::guest::{self, Guest};
use support::process::{Process, eventually};
use support::snapshot::Snapshot;
use wrenn_pager::dump::{Dump, Dumped, Scanner};

const BLOCKS: usize = 1500;
const BLOCK: usize = 4096;

/// Where the shim says the memory is.
fn reported(snapshot: &Snapshot) -> String {
    let path = snapshot.place.at("report");
    eventually("a report", || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')));
    fs::read_to_string(path).unwrap().trim_end().to_owned()
}

fn dumper(snapshot: &Snapshot, guest: &Guest) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wrenn-pager"));
    command
        .arg("dump")
        .args(["--pid", &guest.process.child.id().to_string(), "--address", &reported(snapshot)])
        .args(["--bytes", &snapshot.bytes().to_string(), "--out"])
        .arg(snapshot.place.at("dump"));
    Process::spawn(&mut command)
}

/// It has readied all that it can.
fn ready_dumper(snapshot: &Snapshot, guest: &Guest) -> Process {
    let dumper = dumper(snapshot, guest);
    let out = snapshot.place.at("dump");
    eventually("a file to dump into", || fs::metadata(&out).is_ok_and(|file| file.len() == snapshot.bytes()));
    dumper
}

fn say_the_word(dumper: &mut Process) {
    dumper.child.stdin.take().unwrap().write_all(b"\n").unwrap();
}

fn dumped(snapshot: &Snapshot, guest: &Guest) -> (u64, BTreeMap<usize, Vec<u8>>) {
    let mut dumper = dumper(snapshot, guest);
    say_the_word(&mut dumper);
    let said: serde_json::Value = serde_json::from_str(&dumper.line()).unwrap();
    assert_eq!(dumper.code(), 0);
    (said["pages"].as_u64().unwrap(), data(&snapshot.place.at("dump")))
}

/// The blocks of a sparse file that are not holes.
fn data(path: &Path) -> BTreeMap<usize, Vec<u8>> {
    let content = fs::read(path).unwrap();
    let file = File::open(path).unwrap();
    let (mut found, mut at) = (BTreeMap::new(), 0);
    loop {
        // SAFETY: lseek takes numbers.
        let (start, end) = unsafe {
            let start = libc::lseek(file.as_raw_fd(), at, libc::SEEK_DATA);
            (start, libc::lseek(file.as_raw_fd(), start.max(0), libc::SEEK_HOLE))
        };
        if start < 0 {
            return found;
        }
        for block in start as usize / BLOCK..end as usize / BLOCK {
            found.insert(block, content[block * BLOCK..][..BLOCK].to_vec());
        }
        at = end;
    }
}

#[test]
fn puts_each_block_of_three_generations_at_its_place() {
    for seed in 30..33 {
        let snapshot = Snapshot::chain(seed, BLOCKS, 3);
        let mut guest = Guest::mapped(&snapshot);
        assert_eq!(guest.sum(0, BLOCKS), snapshot.sum(0, BLOCKS), "seed {seed}");
        let maps = fs::read_to_string(format!("/proc/{}/maps", guest.process.child.id())).unwrap();
        let address = reported(&snapshot);
        assert!(maps.lines().any(|line| line.starts_with(&format!("{address}-"))), "{address} in {maps}");
        assert!(!maps.contains("/ram"), "nothing of the RAM file is mapped");
    }
}

#[test]
fn the_snapshots_files_stay_as_they_are() {
    let snapshot = Snapshot::chain(34, BLOCKS, 3);
    let before: Vec<_> = (0..3).map(|build| fs::read(snapshot.memfile(build)).unwrap()).collect();
    let mut guest = Guest::mapped(&snapshot);
    for block in 0..BLOCKS {
        guest.ask(&format!("write {block} 1"));
    }
    let after: Vec<_> = (0..3).map(|build| fs::read(snapshot.memfile(build)).unwrap()).collect();
    assert!(before == after);
}

#[test]
fn a_dump_has_exactly_what_the_guest_wrote_zeroed_pages_included() {
    let snapshot = Snapshot::chain(35, BLOCKS, 3);
    let mut guest = Guest::mapped(&snapshot);
    guest.sum(0, BLOCKS);
    let mut written = BTreeMap::new();
    for block in (0..BLOCKS).step_by(13) {
        let byte = if block % 2 == 0 { 0 } else { 0xA5 };
        guest.ask(&format!("write {block} {byte}"));
        written.insert(block, vec![byte; BLOCK]);
    }
    let (pages, found) = dumped(&snapshot, &guest);
    assert_eq!(found.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>());
    assert!(found == written);
    assert_eq!(pages, written.len() as u64);
    assert_eq!(fs::metadata(snapshot.place.at("dump")).unwrap().len(), snapshot.bytes());
}

#[test]
fn a_dump_of_an_untouched_guest_is_empty() {
    let snapshot = Snapshot::chain(36, BLOCKS, 2);
    let mut guest = Guest::mapped(&snapshot);
    guest.sum(0, BLOCKS);
    assert_eq!(dumped(&snapshot, &guest), (0, BTreeMap::new()));
}

#[test]
fn one_byte_written_to_a_large_zero_run_is_one_page_changed() {
    // Large enough for huge pages, which QEMU asks for.
    let snapshot = Snapshot::zeros(8192);
    let mut guest = Guest::mapped(&snapshot);
    guest.ask("huge");
    guest.ask("write 4100 7");
    assert_eq!(dumped(&snapshot, &guest).0, 1);
}

#[test]
fn without_pagemap_scan_nothing_that_was_written_is_missed() {
    let snapshot = Snapshot::chain(37, BLOCKS, 3);
    let mut guest = Guest::mapped(&snapshot);
    guest.sum(0, BLOCKS);
    for block in (0..BLOCKS).step_by(17) {
        guest.ask(&format!("write {block} 3"));
    }
    let exact = dumped(&snapshot, &guest).1;
    let address = u64::from_str_radix(&reported(&snapshot), 16).unwrap();
    let out = snapshot.place.at("by-pagemap");
    let pid = guest.process.child.id();
    let all = Dumped { pid, address, bytes: snapshot.bytes(), out: out.clone() };
    Dump::ready(&all, Scanner::Pagemap).unwrap().write().unwrap();
    let found = data(&out);
    assert!(exact.iter().all(|(block, content)| found.get(block) == Some(content)));
    // More only where a zero run was read.
    assert!(found.iter().all(|(block, content)| exact.contains_key(block) || content.iter().all(|byte| *byte == 0)));
}

#[test]
fn a_dump_of_a_process_that_is_gone_fails_and_leaves_no_file() {
    let snapshot = Snapshot::full(38, 10);
    let mut guest = Guest::mapped(&snapshot);
    let address = u64::from_str_radix(&reported(&snapshot), 16).unwrap();
    let (pid, out) = (guest.process.child.id(), snapshot.place.at("dump"));
    guest.process.kill();
    guest.process.wait();
    let gone = Dumped { pid, address, bytes: snapshot.bytes(), out: out.clone() };
    assert!(Dump::ready(&gone, Scanner::Best).is_err());
    assert!(!out.exists());
}

#[test]
fn a_dump_that_is_ready_takes_what_was_written_until_the_word() {
    let snapshot = Snapshot::chain(40, BLOCKS, 2);
    let mut guest = Guest::mapped(&snapshot);
    let mut dumper = ready_dumper(&snapshot, &guest);
    guest.ask("write 7 9");
    say_the_word(&mut dumper);
    assert_eq!(dumper.line(), r#"{"pages":1}"#);
    assert_eq!(data(&snapshot.place.at("dump")).into_keys().collect::<Vec<_>>(), [7]);
}

#[test]
fn a_dump_of_a_process_that_ends_before_the_word_fails_and_is_no_empty_one() {
    for scanner in [Scanner::Best, Scanner::Pagemap] {
        let snapshot = Snapshot::chain(41, BLOCKS, 2);
        let mut guest = Guest::mapped(&snapshot);
        guest.ask("write 7 9");
        let address = u64::from_str_radix(&reported(&snapshot), 16).unwrap();
        let (pid, out) = (guest.process.child.id(), snapshot.place.at("dump"));
        let ready = Dump::ready(&Dumped { pid, address, bytes: snapshot.bytes(), out }, scanner).unwrap();
        guest.process.kill();
        guest.process.wait();
        assert!(ready.write().is_err());
    }
}

#[test]
fn a_dump_that_is_called_off_ends_and_says_nothing() {
    let snapshot = Snapshot::chain(42, BLOCKS, 2);
    let guest = Guest::mapped(&snapshot);
    let mut dumper = ready_dumper(&snapshot, &guest);
    drop(dumper.child.stdin.take());
    assert_eq!(dumper.code(), 0);
    assert!(dumper.rest().is_empty());
}

#[test]
fn programs_that_the_vmm_starts_find_nothing_of_the_shim() {
    let snapshot = Snapshot::full(39, 100);
    let mut guest = Guest::mapped(&snapshot);
    assert_eq!(guest.ask("environment"), "");
    let fds = fs::read_dir(format!("/proc/{}/fd", guest.process.child.id())).unwrap();
    let passed = fds.filter(|fd| fd.as_ref().unwrap().file_name().to_str().unwrap().parse::<u32>().unwrap() >= 500);
    assert_eq!(passed.count(), 0, "it closed what it was given");
}

/// The shim ends the program, with one line that says this.
fn refuses(snapshot: &Snapshot, says: &str, prepare: impl FnOnce(&mut Command)) {
    let mut guest = Guest::start(snapshot, "shared", |command, passed, ram| {
        guest::mapped(command, passed, ram, snapshot);
        prepare(command);
    });
    assert_eq!(guest.process.code(), 99);
    let errors = guest.process.errors();
    assert!(errors.starts_with("wrenn-shim: ") && errors.lines().count() == 1 && errors.contains(says), "{errors}");
}

#[test]
fn ends_the_vmm_when_anything_is_wrong() {
    let snapshot = Snapshot::chain(40, BLOCKS, 2);
    refuses(&snapshot, "WRENN_SHIM is both", |command| _ = command.env("WRENN_SHIM", "both"));
    refuses(&snapshot, "WRENN_SHIM_REPORT is not set", |command| _ = command.env_remove("WRENN_SHIM_REPORT"));
    refuses(&snapshot, "no descriptor", |command| _ = command.env("WRENN_SHIM_HEADER", "four"));
    refuses(&snapshot, "was not passed", |command| _ = command.env("WRENN_SHIM_FILES", "700,701"));
    refuses(&snapshot, "was not passed", |command| _ = command.env("WRENN_SHIM_HEADER", "0"));
    refuses(&snapshot, "1 files for 2 builds", |command| _ = command.env("WRENN_SHIM_FILES", "501"));
    refuses(&snapshot, "/nowhere/report", |command| _ = command.env("WRENN_SHIM_REPORT", "/nowhere/report"));

    OpenOptions::new().write(true).open(snapshot.memfile(1)).unwrap().set_len(8192).unwrap();
    refuses(&snapshot, "8192 bytes, not", |_| ());
    fs::write(snapshot.place.at("memfile.header"), "WRNMEMH1").unwrap();
    refuses(&snapshot, "memfile.header", |_| ());
}

#[test]
fn refuses_more_runs_than_a_process_may_have_mappings() {
    let snapshot = Snapshot::in_runs(40_000);
    refuses(&snapshot, "40000 runs", |_| ());
}

#[test]
fn refuses_memory_that_is_not_shared_to_be_filled_lazily() {
    let snapshot = Snapshot::full(41, 100);
    let socket = snapshot.place.at("pager");
    let mut guest = Guest::start(&snapshot, "private", |command, passed, ram| {
        guest::lazily(command, passed, ram, &socket);
    });
    assert_eq!(guest.process.code(), 99);
    assert!(guest.process.errors().contains("share=on"));
}

#[test]
fn ends_the_vmm_when_no_pager_listens() {
    let snapshot = Snapshot::full(42, 100);
    let mut guest = Guest::lazy(&snapshot, &snapshot.place.at("nobody"));
    assert_eq!(guest.process.code(), 99);
    assert!(guest.process.errors().contains("nobody"));
}

#[test]
fn other_memory_of_the_program_stays_its_own() {
    let snapshot = Snapshot::full(43, 100);
    let elsewhere = snapshot.place.at("elsewhere");
    File::create(&elsewhere).unwrap().set_len(snapshot.bytes()).unwrap();
    let mut guest = Guest::start(&snapshot, "shared", |command, passed, _| {
        guest::mapped(command, passed, &elsewhere, &snapshot);
    });
    let zeros = vec![0; snapshot.memory.len()];
    assert_eq!(guest.sum(0, 100), crc32fast::hash(&zeros).to_string());
    assert!(!snapshot.place.at("report").exists());
}

#[test]
fn a_part_of_the_ram_file_is_not_the_guests_memory() {
    let snapshot = Snapshot::full(44, 100);
    let mut guest = Guest::start(&snapshot, "half", |command, passed, ram| {
        guest::mapped(command, passed, ram, &snapshot);
    });
    assert_eq!(guest.sum(0, 50), crc32fast::hash(&[0; 50 * BLOCK]).to_string());
    assert!(!snapshot.place.at("report").exists());
}

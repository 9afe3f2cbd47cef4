//! The pager with real userfaultfd: a guest process whose memory the shim hands over.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use support::encode;
use support::guest::Guest;
use support::pager::{Options, Pager};
use support::place::SmallTmpfs;
use support::process::eventually;
use support::snapshot::Snapshot;
use wrenn_pager::format::working_set;

const SIGKILL: i32 = 9;
const BLOCKS: usize = 1500;

fn with_working_set(blocks: &[u32]) -> Options {
    Options { working_set: Some(encode::working_set(blocks)), ..Options::default() }
}

#[test]
fn gives_each_block_of_three_generations_its_bytes() {
    for seed in 0..4 {
        let snapshot = Snapshot::chain(seed, BLOCKS, 3);
        snapshot.check_sums();
        assert!(snapshot.runs > 30, "{} runs", snapshot.runs);
        let pager = Pager::serving(&snapshot, Options::default());
        let mut guest = Guest::lazy(&snapshot, &pager.socket);
        assert_eq!(pager.prefetched(), 0);
        for block in (0..BLOCKS).rev() {
            assert_eq!(guest.sum(block, 1), snapshot.sum(block, 1), "block {block}, seed {seed}");
        }
        assert_eq!(pager.stats()["resident_pages"], BLOCKS);
    }
}

#[test]
fn eight_threads_that_fault_at_once_all_see_the_same_right_bytes() {
    let snapshot = Snapshot::chain(11, 4 * BLOCKS, 3);
    let pager = Pager::serving(&snapshot, Options::default());
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    assert_eq!(guest.ask("threads 8"), snapshot.sum(0, 4 * BLOCKS));
}

#[test]
fn eight_threads_see_right_bytes_while_everything_is_prefetched() {
    let snapshot = Snapshot::chain(12, 4 * BLOCKS, 3);
    let pager = Pager::serving(&snapshot, Options { is_eager: true, ..Options::default() });
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    assert_eq!(guest.ask("threads 8"), snapshot.sum(0, 4 * BLOCKS));
}

#[test]
fn system_calls_of_the_vmm_find_the_guests_bytes() {
    let snapshot = Snapshot::chain(13, BLOCKS, 2);
    let pager = Pager::serving(&snapshot, Options::default());
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    for block in (0..BLOCKS).step_by(97) {
        assert_eq!(guest.ask(&format!("kernel {block}")), snapshot.sum(block, 1));
    }
}

#[test]
fn a_working_set_is_in_place_before_anybody_asks() {
    let snapshot = Snapshot::chain(14, BLOCKS, 3);
    let set: Vec<u32> = (0..600).map(|index| (index * 7) % BLOCKS as u32).collect();
    let pager = Pager::serving(&snapshot, with_working_set(&set));
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    assert_eq!(pager.prefetched(), 600);
    for block in set {
        assert_eq!(guest.sum(block as usize, 1), snapshot.sum(block as usize, 1));
    }
    assert_eq!(pager.faults(), 0);
    let other = (0..BLOCKS).find(|block| block % 7 == 1 && *block > 1200).unwrap();
    assert_eq!(guest.sum(other, 1), snapshot.sum(other, 1));
    assert_eq!(pager.faults(), 1);
}

#[test]
fn what_one_life_touched_is_there_in_the_next() {
    let snapshot = Snapshot::chain(15, BLOCKS, 3);
    let read = |guest: &mut Guest| {
        for block in (0..BLOCKS).step_by(31) {
            assert_eq!(guest.sum(block, 1), snapshot.sum(block, 1));
        }
    };
    let mut first = Pager::serving(&snapshot, with_working_set(&[9, 8]));
    let mut guest = Guest::lazy(&snapshot, &first.socket);
    assert_eq!(first.prefetched(), 2);
    read(&mut guest);
    let faults = first.faults();
    assert!((40..=49).contains(&faults), "{faults} faults");
    guest.process.kill();
    let left = first.left();
    let set = working_set::read(&left).unwrap();
    assert_eq!(set[..2], [8, 9], "what was prefetched comes first");

    let second = Pager::serving(&snapshot, Options { working_set: Some(left), ..Options::default() });
    let mut guest = Guest::lazy(&snapshot, &second.socket);
    assert_eq!(second.prefetched(), set.len() as u64);
    read(&mut guest);
    assert_eq!(second.faults(), 0);
}

#[test]
fn in_the_end_it_says_what_it_did_and_in_whose_trace() {
    let snapshot = Snapshot::chain(18, BLOCKS, 3);
    let traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let mut pager = Pager::serving(&snapshot, Options { traceparent, ..with_working_set(&[9, 8]) });
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    assert_eq!(pager.prefetched(), 2);
    guest.sum(100, 1);
    let faults = pager.faults();
    guest.process.kill();
    pager.left();
    let said: Value = serde_json::from_str(&pager.process.rest().pop().unwrap()).unwrap();
    assert_eq!(
        (&said["event"], &said["faults"], &said["prefetched_pages"]),
        (&json!("ended"), &json!(faults), &json!(2))
    );
    assert_eq!(said["trace"], "4bf92f3577b34da6a3ce929d0e0e4736");
}

#[test]
fn eagerly_all_memory_is_in_place_at_once() {
    let snapshot = Snapshot::chain(16, BLOCKS, 3);
    let pager = Pager::serving(&snapshot, Options { is_eager: true, ..Options::default() });
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    assert_eq!(pager.prefetched(), BLOCKS as u64);
    assert_eq!(guest.sum(0, BLOCKS), snapshot.sum(0, BLOCKS));
    assert_eq!(pager.faults(), 0);
}

#[test]
fn a_damaged_working_set_is_passed_over() {
    let snapshot = Snapshot::chain(17, BLOCKS, 2);
    let mut damaged = encode::working_set(&[1, 2, 3]);
    damaged[13] ^= 1;
    for content in [damaged, encode::working_set(&[1, BLOCKS as u32]), Vec::new()] {
        let mut pager = Pager::serving(&snapshot, Options { working_set: Some(content), ..Options::default() });
        let mut guest = Guest::lazy(&snapshot, &pager.socket);
        assert_eq!(pager.prefetched(), 0);
        assert_eq!(guest.sum(0, BLOCKS), snapshot.sum(0, BLOCKS));
        guest.process.kill();
        pager.left();
    }
}

#[test]
fn never_overwrites_what_the_guest_wrote_and_leaves_it_in_the_ram_file() {
    let snapshot = Snapshot::full(18, BLOCKS);
    let mut pager = Pager::serving(&snapshot, Options::default());
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    for block in (0..BLOCKS).step_by(5) {
        guest.ask(&format!("write {block} 171"));
    }
    assert_ne!(guest.sum(0, BLOCKS), snapshot.sum(0, BLOCKS));
    guest.process.kill();
    pager.left();
    let ram = fs::read(snapshot.place.at("ram")).unwrap();
    for (block, (now, before)) in ram.chunks(4096).zip(snapshot.memory.chunks(4096)).enumerate() {
        let expected = if block % 5 == 0 { &[171; 4096][..] } else { before };
        assert!(now == expected, "block {block}");
    }
}

#[test]
fn counts_what_it_does() {
    let snapshot = Snapshot::full(19, BLOCKS);
    let pager = Pager::serving(&snapshot, with_working_set(&[0, 1, 2, 3]));
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    pager.prefetched();
    guest.sum(0, 160);
    let stats = pager.stats();
    assert_eq!(stats["prefetched_pages"], 4);
    assert_eq!(stats["faults"], 10, "one for 16 pages");
    assert_eq!(stats["resident_pages"], 160);
    assert_eq!(stats["copied_bytes"], 160 * 4096);
    let histogram: u64 = stats["service_us"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(histogram, 10);
}

#[test]
fn a_block_that_is_not_what_its_checksum_says_kills_the_vm_with_the_reason() {
    for build in 0..3 {
        let snapshot = Snapshot::chain(20, BLOCKS, 3);
        let (block, offset) = snapshot.stored_block(build);
        let path = snapshot.memfile(build as usize);
        OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"!", offset + 100).unwrap();
        let mut pager = Pager::serving(&snapshot, Options::default());
        let mut guest = Guest::lazy(&snapshot, &pager.socket);
        guest.tell(&format!("sum {block} 1"));
        assert_eq!(guest.process.signal(), SIGKILL);
        assert!(guest.process.rest().is_empty(), "it saw nothing");
        let (reason, message) = pager.fatal();
        assert_eq!(reason, "SNAPSHOT_CORRUPT");
        assert!(message.contains(path.file_name().unwrap().to_str().unwrap()), "{message}");
    }
}

#[test]
fn a_damaged_block_of_the_working_set_kills_the_vm_before_it_runs() {
    let snapshot = Snapshot::full(21, BLOCKS);
    OpenOptions::new().write(true).open(snapshot.memfile(0)).unwrap().write_all_at(b"!", 700 * 4096).unwrap();
    let mut pager = Pager::serving(&snapshot, with_working_set(&[699, 700]));
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    assert_eq!(guest.process.signal(), SIGKILL);
    assert_eq!(pager.fatal().0, "SNAPSHOT_CORRUPT");
}

#[test]
fn a_file_that_is_truncated_later_kills_the_vm_with_the_reason() {
    let snapshot = Snapshot::full(22, BLOCKS);
    let mut pager = Pager::serving(&snapshot, Options::default());
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    assert_eq!(guest.sum(0, 1), snapshot.sum(0, 1));
    OpenOptions::new().write(true).open(snapshot.memfile(0)).unwrap().set_len(4096).unwrap();
    guest.tell("sum 900 1");
    assert_eq!(guest.process.signal(), SIGKILL);
    assert_eq!(pager.fatal().0, "SNAPSHOT_CORRUPT");
}

#[test]
fn damaged_files_are_refused_before_a_vm_comes() {
    type Damage = (&'static str, fn(&Snapshot));
    let damage: [Damage; 4] = [
        ("memfile.header", |snapshot| flip(&snapshot.place.at("memfile.header"), 40)),
        ("memfile.sn-", |snapshot| {
            OpenOptions::new().write(true).open(snapshot.memfile(1)).unwrap().set_len(4096).unwrap();
        }),
        (".sums", |snapshot| flip(&snapshot.sums(1), 17)),
        (".sums", |snapshot| fs::write(snapshot.sums(0), encode::sums(&[1, 2, 3])).unwrap()),
    ];
    for (named, damage) in damage {
        let snapshot = Snapshot::chain(23, BLOCKS, 2);
        damage(&snapshot);
        let mut pager = Pager::start(&snapshot, Options::default());
        let (reason, message) = pager.fatal();
        assert_eq!(reason, "SNAPSHOT_CORRUPT");
        assert!(message.contains(named), "{message}");
        assert!(!pager.socket.exists());
    }
}

fn flip(path: &std::path::Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

#[test]
fn a_guest_whose_pager_died_waits_and_sees_no_zeros() {
    let snapshot = Snapshot::full(24, BLOCKS);
    let mut pager = Pager::serving(&snapshot, Options::default());
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    assert_eq!(guest.sum(0, 1), snapshot.sum(0, 1));
    pager.process.kill();
    pager.process.wait();
    guest.tell("sum 1000 1");
    assert!(guest.waits());
    guest.process.kill();
    assert_eq!(guest.process.signal(), SIGKILL, "and can be killed");
}

#[test]
fn a_page_that_somebody_else_filled_meanwhile_is_not_waited_for() {
    let snapshot = Snapshot::full(29, BLOCKS);
    let pager = Pager::serving(&snapshot, Options::default());
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    pager.prefetched();
    pager.process.signal_it(libc::SIGSTOP);
    guest.tell("sum 700 1");
    assert!(guest.waits());
    let ram = OpenOptions::new().write(true).open(snapshot.place.at("ram")).unwrap();
    ram.write_all_at(&[7; 4096], 700 * 4096).unwrap();
    pager.process.signal_it(libc::SIGCONT);
    assert_eq!(guest.process.line(), crc32fast::hash(&[7; 4096]).to_string());
    assert_eq!(guest.sum(701, 50), snapshot.sum(701, 50));
}

#[test]
fn ends_by_itself_with_its_vm_and_takes_its_sockets_along() {
    let snapshot = Snapshot::full(25, BLOCKS);
    let mut pager = Pager::serving(&snapshot, Options::default());
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    pager.prefetched();
    assert!(!pager.socket.exists(), "it serves one VM and no other");
    drop(guest.process.child.stdin.take());
    assert_eq!(guest.process.code(), 0);
    assert_eq!(working_set::read(&pager.left()).unwrap(), [0u32; 0]);
    assert!(!snapshot.place.at("pager.stats").exists());
}

#[test]
fn serves_on_when_nobody_hears_it() {
    let snapshot = Snapshot::full(26, BLOCKS);
    let mut pager = Pager::start(&snapshot, Options { is_mute: true, ..Options::default() });
    eventually("it listens", || pager.socket.exists());
    let mut guest = Guest::lazy(&snapshot, &pager.socket);
    assert_eq!(guest.sum(0, BLOCKS), snapshot.sum(0, BLOCKS));
    guest.process.kill();
    pager.left();
}

#[test]
fn pages_that_firecracker_gave_back_are_zero() {
    let snapshot = Snapshot::full(27, BLOCKS);
    let pager = Pager::serving(&snapshot, Options::default());
    let mut guest = Guest::as_firecracker(&snapshot, &pager.socket);
    assert_eq!(guest.sum(0, 700), snapshot.sum(0, 700), "two regions");
    guest.ask("remove 100 50");
    guest.ask("remove 800 100");
    let mut memory = snapshot.memory.clone();
    memory[100 * 4096..150 * 4096].fill(0);
    memory[800 * 4096..900 * 4096].fill(0);
    assert_eq!(guest.sum(0, BLOCKS), crc32fast::hash(&memory).to_string());
}

#[test]
fn pages_given_back_amid_prefetching_stay_zero() {
    let snapshot = Snapshot::full(28, 4 * BLOCKS);
    let pager = Pager::serving(&snapshot, Options { is_eager: true, ..Options::default() });
    let mut guest = Guest::as_firecracker(&snapshot, &pager.socket);
    let mut memory = snapshot.memory.clone();
    for first in (0..4 * BLOCKS).step_by(100) {
        guest.ask(&format!("remove {first} 10"));
        memory[first * 4096..(first + 10) * 4096].fill(0);
    }
    pager.prefetched();
    assert_eq!(guest.sum(0, 4 * BLOCKS), crc32fast::hash(&memory).to_string());
}

#[test]
fn a_guest_for_which_no_memory_is_left_ends_with_that_reason() {
    let snapshot = Snapshot::full(30, BLOCKS);
    let small = SmallTmpfs::mount(snapshot.place.at("small"));
    let mut pager = Pager::serving(&snapshot, Options::default());
    let mut guest = Guest::with_ram(&snapshot, &small.file(snapshot.bytes()), &pager.socket);
    guest.tell(&format!("sum 0 {BLOCKS}"));
    assert_eq!(guest.process.signal(), SIGKILL);
    assert_eq!(pager.fatal().0, "MEMORY_EXHAUSTED");
}

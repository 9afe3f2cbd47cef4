//! What a VMM says first, on the real socket: one that lies or dies ends, and with it its pager.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs::File;
use support::guest::Guest;
use support::pager::{Options, Pager};
use support::process::userfaultfd;
use support::snapshot::Snapshot;

const SIGKILL: i32 = 9;
const BLOCKS: usize = 100;

fn region(bytes: u64) -> String {
    format!(r#"[{{"base_host_virt_addr":4096,"size":{bytes},"offset":0,"page_size":4096}}]"#)
}

#[test]
fn one_that_comes_byte_by_byte_is_served() {
    let snapshot = Snapshot::full(50, BLOCKS);
    let pager = Pager::serving(&snapshot, Options::default());
    let mut guest = Guest::in_pieces(&snapshot, &pager.socket);
    assert_eq!(guest.sum(0, BLOCKS), snapshot.sum(0, BLOCKS));
}

#[test]
fn kills_who_says_nonsense() {
    let snapshot = Snapshot::full(51, BLOCKS);
    let right = region(snapshot.bytes());
    let cases = [
        ("nonsense", 1),
        ("{}", 1),
        ("[]", 1),
        (&region(snapshot.bytes() + 4096), 1),
        (&region(snapshot.bytes() - 4096), 1),
        (&right.replace("\"offset\":0", "\"offset\":4096"), 1),
        (&right.replace("\"page_size\":4096", "\"page_size\":2097152"), 1),
        (&right.replace(":4096,\"size\"", ":4097,\"size\""), 1),
        (&right.replace(":4096,\"size\"", ":-4096,\"size\""), 1),
        (&right.replace(":4096,\"size\"", ":18446744073709547520,\"size\""), 1),
        (&right, 0),
        (&right, 2),
    ];
    for (said, descriptors) in cases {
        let mut pager = Pager::serving(&snapshot, Options::default());
        let mut guest = Guest::saying(&pager.socket, said, descriptors, userfaultfd());
        assert_eq!(guest.process.signal(), SIGKILL, "{said}");
        assert_eq!(pager.fatal().0, "HANDSHAKE_INVALID", "{said}");
    }
}

#[test]
fn kills_who_passes_another_kind_of_descriptor() {
    let snapshot = Snapshot::full(52, BLOCKS);
    let mut pager = Pager::serving(&snapshot, Options { is_eager: true, ..Options::default() });
    let zero = File::open("/dev/zero").unwrap();
    let mut guest = Guest::saying(&pager.socket, &region(snapshot.bytes()), 1, zero);
    assert_eq!(guest.process.signal(), SIGKILL);
    pager.fatal();
}

#[test]
fn ends_with_who_dies_before_it_has_said_all() {
    let snapshot = Snapshot::full(53, BLOCKS);
    let mut pager = Pager::serving(&snapshot, Options::default());
    let mut guest = Guest::saying(&pager.socket, "[{", 1, userfaultfd());
    pager.process.is_silent(std::time::Duration::from_millis(50));
    guest.process.kill();
    let (reason, message) = pager.fatal();
    assert_eq!((reason.as_str(), message.as_str()), ("HANDSHAKE_INVALID", "it ended too early"));
}

#[test]
fn refuses_endless_talk() {
    let snapshot = Snapshot::full(54, BLOCKS);
    let mut pager = Pager::serving(&snapshot, Options::default());
    let mut guest = Guest::saying(&pager.socket, &format!("[{}", " ".repeat(100_000)), 1, userfaultfd());
    assert_eq!(guest.process.signal(), SIGKILL);
    assert_eq!(pager.fatal().0, "HANDSHAKE_INVALID");
}

//! Limits of the guest are felt as errors with a reason, never as a dead agent.

use crate::support::{Agent, Scratch, descriptors, eventually, small_disk};
use nix::sys::resource::{Resource, getrlimit};
use serde_json::json;
use std::fs;
use std::path::PathBuf;

/// A cgroup that bounds the number of tasks in it.
struct Tasks(PathBuf);

impl Tasks {
    fn holding(pid: u32) -> Self {
        let v1 = PathBuf::from("/sys/fs/cgroup/pids");
        let root = if v1.is_dir() { v1 } else { PathBuf::from("/sys/fs/cgroup") };
        let group = Self(root.join(format!("wrenn-agent-test-{pid}")));
        fs::create_dir(&group.0).unwrap();
        group.set("cgroup.procs", &pid.to_string());
        group
    }

    fn set(&self, name: &str, value: &str) {
        fs::write(self.0.join(name), value).unwrap();
    }

    fn count(&self) -> u32 {
        fs::read_to_string(self.0.join("pids.current")).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        eventually("the group is empty", || fs::remove_dir(&self.0).is_ok());
    }
}

/// Of another process, by a program that is not ours.
fn limit_descriptors(pid: u32, soft: &str) {
    let args = ["--pid".to_owned(), pid.to_string(), format!("--nofile={soft}:")];
    assert!(std::process::Command::new("prlimit").args(args).status().unwrap().success());
}

fn words(events: crate::support::Events) -> (String, String) {
    let refusal = events.refusal();
    (refusal.code, refusal.reason)
}

fn no_process_left() -> (String, String) {
    ("resource_exhausted".to_owned(), "NO_PROCESS_LEFT".to_owned())
}

#[test]
fn gives_programs_65536_descriptors_and_lets_them_ask_for_more() {
    let agent = Agent::start();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let limits = agent.sh("ulimit -Sn; ulimit -Hn; ulimit -Sn $(ulimit -Hn) && ulimit -Sn").run().text();
    assert_eq!(limits, format!("{}\n{hard}\n{hard}\n", hard.min(65_536)));
}

#[test]
fn a_guest_without_tasks_left_refuses_to_start_and_goes_on_once_there_are_some() {
    let agent = Agent::start();
    let mut bomb = agent.start_process(&json!({ "process": { "cmd": "/bin/cat" } }));
    let pid = bomb.pid();
    let tasks = Tasks::holding(agent.pid());
    tasks.set("pids.max", &tasks.count().to_string());
    let scratch = Scratch::new();
    let file = scratch.file("file", "x", 0o644);
    assert_eq!(words(agent.sh("echo never")), no_process_left());
    let stat = agent.call("filesystem.Filesystem/Stat", &json!({ "path": file })).unwrap_err();
    assert_eq!(stat.words(), ("resource_exhausted", "NO_PROCESS_LEFT"));
    let answer = agent.http("GET", &format!("/files?path={file}"), &[], b"");
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (503, Some("NO_PROCESS_LEFT")));
    assert_eq!(agent.listed()[0]["pid"], pid, "what runs is still listed and steered");
    agent.call("process.Process/SendSignal", &json!({ "process": { "pid": pid }, "signal": 9 })).unwrap();
    assert_eq!(bomb.rest().end["exitCode"], 137);
    tasks.set("pids.max", "max");
    assert_eq!(agent.sh("echo again").run().text(), "again\n");
    // The group empties before it goes.
    drop(agent);
}

#[test]
fn a_guest_without_descriptors_left_refuses_to_start_and_leaks_none() {
    let agent = Agent::start();
    agent.sh("true").run();
    let before = descriptors(agent.pid());
    // One for the connection, and too few for the pipes.
    for spare in 2..6 {
        limit_descriptors(agent.pid(), &(before + spare).to_string());
        assert_eq!(words(agent.sh("echo never")), no_process_left(), "{spare} descriptors");
        let with_pty = json!({ "process": { "cmd": "/bin/true" }, "pty": {} });
        if spare < 4 {
            assert_eq!(words(agent.start_process(&with_pty)), no_process_left(), "{spare} descriptors");
        }
    }
    limit_descriptors(agent.pid(), &before.to_string());
    let refused = std::net::TcpStream::connect(agent.address).unwrap();
    limit_descriptors(agent.pid(), "1000");
    drop(refused);
    assert_eq!(agent.sh("echo again").run().text(), "again\n");
    eventually("nothing is left open", || descriptors(agent.pid()) <= before);
}

#[test]
fn a_full_disk_is_told_by_every_call_that_writes() {
    let scratch = Scratch::new();
    let _disk = small_disk(scratch.path(), 1 << 20);
    let agent = Agent::start();
    let refusal = (0..100).find_map(|n| {
        agent.call("filesystem.Filesystem/MakeDir", &json!({ "path": scratch.at(&n.to_string()) })).err()
    });
    assert_eq!(refusal.unwrap().words(), ("resource_exhausted", "NO_SPACE_LEFT"));
    let file = scratch.at("file");
    let answer = agent.http("POST", &format!("/files?path={file}"), &[], b"x");
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (507, Some("NO_SPACE_LEFT")));
    fs::remove_dir(scratch.at("0")).unwrap();
    let run = agent.sh(&format!("head -c 3000000 /dev/zero > {file}")).run();
    assert!(String::from_utf8_lossy(&run.stderr).contains("No space left"), "programs are told by the kernel");
    assert_eq!(agent.sh("echo alive").run().text(), "alive\n");
}

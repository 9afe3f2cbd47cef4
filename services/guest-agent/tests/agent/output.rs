//! Output: nothing is lost, nothing is changed, and a slow reader slows the process instead.

use crate::support::{Agent, Scratch, eventually, sh};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn loses_no_output_of_commands_that_end_at_once() {
    let agent = Agent::start();
    for n in 0..100 {
        let run = agent.sh(&format!("echo out {n}; echo err {n} >&2; exit {}", n % 3)).run();
        assert_eq!(String::from_utf8(run.stdout).unwrap(), format!("out {n}\n"));
        assert_eq!(String::from_utf8(run.stderr).unwrap(), format!("err {n}\n"));
        assert_eq!(run.end["exitCode"].as_i64().unwrap_or(0), n % 3);
    }
}

#[test]
fn delivers_binary_output_byte_for_byte_in_events_of_at_most_32_kib() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let copy = scratch.at("copy");
    let run = agent.sh(&format!("head -c 5000000 /dev/urandom | tee {copy}")).run();
    assert!(run.stdout == fs::read(copy).unwrap(), "the bytes differ");
    assert!(run.largest <= 32 * 1024, "an event of {} bytes", run.largest);
}

#[test]
fn slows_a_process_whose_reader_does_not_read_and_then_loses_nothing() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let done = scratch.at("done");
    let total: u64 = 50_000_000;
    let mut events = agent.sh(&format!("head -c {total} /dev/zero; touch {done}"));
    events.pid();
    // What the process wrote is bounded by 256 events, the pipe and the buffers of the connection.
    let written = || -> u64 {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.pid())).unwrap();
        let io = children.split_whitespace().flat_map(|shell| {
            fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        });
        io.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/io")).ok())
            .filter_map(|io| io.lines().find_map(|l| l.strip_prefix("wchar: ")?.parse::<u64>().ok()))
            .sum()
    };
    let (mut last, mut since) = (0, Instant::now());
    eventually("the process comes to a halt", || {
        let now = written();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        last > 1_000_000 && since.elapsed() > Duration::from_millis(500)
    });
    assert!(last < 25_000_000, "{last} bytes were taken from a process that nobody listens to");
    assert!(!fs::exists(&done).unwrap());
    let run = events.rest();
    assert_eq!(run.stdout.len() as u64, total);
    assert!(fs::exists(&done).unwrap());
}

#[test]
fn one_who_joins_late_gets_a_start_event_and_all_output_from_then_on() {
    let agent = Agent::start();
    let mut first = agent.start_process(&json!({
        "process": { "cmd": "/bin/sh", "args": ["-c", "echo early; read x; echo late $x; exit 7"] }, "tag": "job",
    }));
    let pid = first.pid();
    first.until("early");
    let mut second = agent.stream("process.Process/Connect", &json!({ "process": { "tag": "job" } }), &[]);
    assert_eq!(second.pid(), pid);
    agent
        .call("process.Process/SendInput", &json!({ "process": { "pid": pid }, "input": { "stdin": "aGkK" } }))
        .unwrap();
    for events in [&mut first, &mut second] {
        let run = events.rest();
        assert_eq!((run.text().as_str(), run.end["exitCode"].as_i64()), ("late hi\n", Some(7)));
    }
}

#[test]
fn a_client_that_leaves_does_not_end_its_process_and_can_come_back_by_tag() {
    let agent = Agent::start();
    let request = json!({ "process": { "cmd": "/bin/sh", "args": ["-c", "read x; echo got $x"] }, "tag": "mine" });
    let pid = agent.start_process(&request).pid();
    assert_eq!(agent.listed()[0]["pid"], pid);
    let mut events = agent.stream("process.Process/Connect", &json!({ "process": { "tag": "mine" } }), &[]);
    assert_eq!(events.pid(), pid);
    agent
        .call("process.Process/SendInput", &json!({ "process": { "tag": "mine" }, "input": { "stdin": "eAo=" } }))
        .unwrap();
    assert_eq!(events.rest().text(), "got x\n");
}

#[test]
fn the_newest_of_equal_tags_is_meant() {
    let agent = Agent::start();
    let request = json!({ "process": { "cmd": "/bin/cat" }, "tag": "twin" });
    let (mut old, mut new) = (agent.start_process(&request), agent.start_process(&request));
    let (old_pid, new_pid) = (old.pid(), new.pid());
    agent.call("process.Process/CloseStdin", &json!({ "process": { "tag": "twin" } })).unwrap();
    new.rest();
    assert_eq!(agent.listed().iter().map(|p| p["pid"].as_u64()).collect::<Vec<_>>(), [Some(u64::from(old_pid))]);
    assert_ne!(old_pid, new_pid);
}

#[test]
fn ends_although_a_background_child_keeps_the_output_open() {
    let agent = Agent::start();
    let run = agent.sh("sleep 600 & echo $!").run();
    assert_eq!(run.end["exited"], true);
    let orphan: i32 = run.text().trim().parse().unwrap();
    // SAFETY: a signal to the process that this test started.
    assert_eq!(unsafe { libc::kill(orphan, libc::SIGKILL) }, 0, "the background child lives on");
}

#[test]
fn says_that_it_lives_while_nothing_happens() {
    let agent = Agent::start();
    let mut events = agent.stream(
        "process.Process/Start",
        &json!({ "process": { "cmd": "/bin/sh", "args": ["-c", "read x"] } }),
        &[("keepalive-ping-interval", "1")],
    );
    let pid = events.pid();
    assert!(events.next().unwrap().unwrap()["event"].get("keepalive").is_some());
    agent.call("process.Process/CloseStdin", &json!({ "process": { "pid": pid } })).unwrap();
    events.rest();
}

#[test]
fn lists_what_runs_as_it_was_asked_for_oldest_first() {
    let agent = Agent::start();
    let config = json!({ "cmd": "sleep", "args": ["600"], "envs": { "A": "b" }, "cwd": "/tmp" });
    let mut first = agent.start_process(&json!({ "process": config, "tag": "t" }));
    let mut second = agent.start_process(&sh("exec sleep 600"));
    let (first_pid, second_pid) = (first.pid(), second.pid());
    let listed = agent.listed();
    assert_eq!(listed[0], json!({ "config": config, "pid": first_pid, "tag": "t" }));
    assert_eq!((listed.len(), &listed[1]["pid"]), (2, &json!(second_pid)));
    for pid in [first_pid, second_pid] {
        agent.call("process.Process/SendSignal", &json!({ "process": { "pid": pid }, "signal": 9 })).unwrap();
    }
    first.rest();
    second.rest();
    assert!(agent.listed().is_empty(), "who has ended is not listed");
}

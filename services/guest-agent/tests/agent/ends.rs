//! How processes end: exit codes, signals to whole groups, deadlines, and nothing left behind.

use crate::support::{Agent, eventually, is_alive, sh};
use serde_json::{Value, json};
use std::fs;

fn signal(agent: &Agent, pid: u32, signal: impl Into<Value>) {
    let request = json!({ "process": { "pid": pid }, "signal": signal.into() });
    agent.call("process.Process/SendSignal", &request).unwrap();
}

#[test]
fn tells_exit_codes_and_signals_apart() {
    let agent = Agent::start();
    for (script, end) in [
        ("true", json!({ "exited": true, "status": "exit status 0" })),
        ("exit 3", json!({ "exitCode": 3, "exited": true, "status": "exit status 3", "error": "exit status 3" })),
        (
            "exit 255",
            json!({ "exitCode": 255, "exited": true, "status": "exit status 255", "error": "exit status 255" }),
        ),
        ("kill -9 $$", json!({ "exitCode": 137, "status": "signal: killed", "error": "signal: killed" })),
        ("kill -15 $$", json!({ "exitCode": 143, "status": "signal: terminated", "error": "signal: terminated" })),
        (
            "exec env kill -40 $$",
            json!({ "exitCode": 168, "status": "signal: signal 40", "error": "signal: signal 40" }),
        ),
    ] {
        assert_eq!(agent.sh(script).run().end, end, "{script}");
    }
}

#[test]
fn signals_the_whole_process_group() {
    let agent = Agent::start();
    let mut events = agent.sh("sleep 600 & sleep 600 & echo $! ready; wait");
    let pid = events.pid();
    let grandchild: u32 = events.until("ready").text().split(' ').next().unwrap().parse().unwrap();
    assert!(is_alive(grandchild));
    signal(&agent, pid, "SIGNAL_SIGKILL");
    assert_eq!(events.rest().end["exitCode"], 137);
    eventually("the grandchild is gone", || !is_alive(grandchild));
}

#[test]
fn lets_a_process_handle_its_signal() {
    let agent = Agent::start();
    let mut events = agent.sh("trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.01; done");
    let pid = events.pid();
    events.until("ready");
    signal(&agent, pid, libc::SIGUSR1);
    let run = events.rest();
    assert_eq!((run.text().as_str(), run.end["exitCode"].as_i64()), ("caught\n", Some(5)));
}

#[test]
fn starts_processes_with_default_signals_in_a_session_of_their_own() {
    let agent = Agent::start();
    let mut events = agent.sh("grep -E '^(SigIgn|SigBlk):' /proc/self/status; ps -o pid=,pgid=,sid= -p $$");
    let pid = events.pid();
    let text = events.rest().text();
    assert_eq!(text.matches("0000000000000000").count(), 2, "{text}");
    assert!(text.split_whitespace().rev().take(3).all(|id| id == pid.to_string()), "{text}");
}

#[test]
fn kills_at_the_deadline_of_its_start() {
    let agent = Agent::start();
    let request = sh("sleep 600 & sleep 600");
    let events = agent.stream("process.Process/Start", &request, &[("connect-timeout-ms", "1000")]);
    assert_eq!(events.run().end["status"], "signal: killed");
    assert!(agent.listed().is_empty());
}

#[test]
fn reaps_children_and_orphans() {
    let agent = Agent::start();
    agent.sh("for i in 1 2 3 4 5; do (sleep 0.05 >/dev/null 2>&1 &) ; done").run();
    agent.sh("exit 1").run();
    assert!(agent.start_process(&json!({ "process": { "cmd": "/no/such/program" } })).next().is_err());
    eventually("the agent has no child left", || {
        fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.pid())).unwrap().is_empty()
    });
}

#[test]
fn keeps_no_descriptor_of_what_has_ended() {
    let agent = Agent::start();
    let open = || fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
    agent.sh("true").run();
    let before = open();
    for _ in 0..20 {
        agent.sh("echo x").run();
        agent.start_process(&json!({ "process": { "cmd": "/bin/true" }, "pty": {} })).run();
        assert!(agent.start_process(&json!({ "process": { "cmd": "/no/such/program" } })).next().is_err());
    }
    eventually("all descriptors are closed", || open() <= before);
}

#[test]
fn runs_a_hundred_processes_at_a_time() {
    let agent = Agent::start();
    let mut all: Vec<_> = (0..100)
        .map(|n| {
            (n, agent.start_process(&json!({
        "process": { "cmd": "/bin/sh", "args": ["-c", format!("read x; echo {n}; exit {n}")] }, "tag": n.to_string(),
    })))
        })
        .collect();
    for (_, events) in &mut all {
        events.pid();
    }
    for (n, _) in &all {
        agent.call("process.Process/CloseStdin", &json!({ "process": { "tag": n.to_string() } })).unwrap();
    }
    for (n, events) in &mut all {
        let run = events.rest();
        assert_eq!((run.text(), run.end["exitCode"].as_i64().unwrap_or(0)), (format!("{n}\n"), *n));
    }
}

#[test]
fn what_leaves_the_group_outlives_signals_and_deadlines_and_is_reaped_in_the_end() {
    let agent = Agent::start();
    let script = "setsid sleep 600 >/dev/null 2>&1 & echo $! ready; sleep 600";
    let mut signalled = agent.sh(script);
    let pid = signalled.pid();
    let late = agent.stream("process.Process/Start", &sh(script), &[("connect-timeout-ms", "1000")]).run();
    let daemon = |text: &str| text.split(' ').next().unwrap().parse::<u32>().unwrap();
    let daemons = [daemon(&signalled.until("ready").text()), daemon(&late.text())];
    signal(&agent, pid, "SIGNAL_SIGKILL");
    assert_eq!((&signalled.rest().end["exitCode"], &late.end["exitCode"]), (&json!(137), &json!(137)));
    for pid in daemons {
        assert!(is_alive(pid));
        agent.sh(&format!("kill -9 {pid}")).run();
        eventually("it is reaped", || !is_alive(pid));
    }
}

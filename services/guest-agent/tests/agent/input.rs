//! Input: stdin and terminals. Every byte arrives, in order, once.

use crate::support::{Agent, Scratch, envelope};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

fn send(agent: &Agent, pid: u32, channel: &str, bytes: &[u8]) -> Result<Value, crate::support::Refusal> {
    let input = json!({ channel: STANDARD.encode(bytes) });
    agent.call("process.Process/SendInput", &json!({ "process": { "pid": pid }, "input": input }))
}

fn close(agent: &Agent, pid: u32) -> Result<Value, crate::support::Refusal> {
    agent.call("process.Process/CloseStdin", &json!({ "process": { "pid": pid } }))
}

#[test]
fn carries_bytes_through_stdin_until_it_is_closed() {
    let agent = Agent::start();
    let mut events = agent.start_process(&json!({ "process": { "cmd": "/bin/cat" } }));
    let pid = events.pid();
    let bytes: Vec<u8> = (0..=255).collect();
    send(&agent, pid, "stdin", &bytes).unwrap();
    send(&agent, pid, "stdin", b"end").unwrap();
    close(&agent, pid).unwrap();
    close(&agent, pid).unwrap_or_default();
    assert_eq!(events.rest().stdout, [bytes.as_slice(), b"end"].concat());
}

#[test]
fn waits_for_a_process_that_reads_its_stdin_late_and_cuts_nothing_off() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let go = scratch.at("go");
    let script = format!("while [ ! -e {go} ]; do sleep 0.01; done; wc -c");
    let mut events = agent.start_process(&json!({ "process": { "cmd": "/bin/sh", "args": ["-c", script] } }));
    let pid = events.pid();
    std::thread::scope(|scope| {
        // Far more than a pipe holds, so it cannot end before the process reads.
        let sender = scope.spawn(|| send(&agent, pid, "stdin", &vec![b'x'; 1_000_000]));
        scratch.file("go", "", 0o644);
        sender.join().unwrap().unwrap();
    });
    close(&agent, pid).unwrap();
    assert_eq!(events.rest().text().trim(), "1000000");
}

#[test]
fn takes_a_stream_of_inputs_in_order() {
    let agent = Agent::start();
    let mut events = agent.start_process(&json!({ "process": { "cmd": "/bin/cat" }, "tag": "sink" }));
    let pid = events.pid();
    let mut body = envelope(&json!({ "start": { "process": { "tag": "sink" } } }));
    for n in 0..1000 {
        body.extend(envelope(&json!({ "data": { "input": { "stdin": STANDARD.encode(format!("{n} ")) } } })));
        body.extend(envelope(&json!({ "keepalive": {} })));
    }
    let headers = [("content-type", "application/connect+json")];
    assert_eq!(agent.http("POST", "/process.Process/StreamInput", &headers, &body).status, 200);
    close(&agent, pid).unwrap();
    assert_eq!(events.rest().text(), (0..1000).map(|n| format!("{n} ")).collect::<String>());
}

#[test]
fn gives_an_empty_stdin_to_who_wants_none() {
    let agent = Agent::start();
    let mut events = agent
        .start_process(&json!({ "process": { "cmd": "/bin/sh", "args": ["-c", "wc -c; sleep 600"] }, "stdin": false }));
    let pid = events.pid();
    assert_eq!(events.until("\n").text().trim(), "0");
    assert_eq!(send(&agent, pid, "stdin", b"x").unwrap_err().words(), ("failed_precondition", "STDIN_CLOSED"));
    assert_eq!(send(&agent, pid, "pty", b"x").unwrap_err().words(), ("failed_precondition", "NO_PTY"));
}

#[test]
fn says_so_when_the_process_no_longer_reads() {
    let agent = Agent::start();
    let mut events = agent
        .start_process(&json!({ "process": { "cmd": "/bin/sh", "args": ["-c", "exec <&-; echo deaf; sleep 600"] } }));
    let pid = events.pid();
    events.until("deaf");
    assert_eq!(send(&agent, pid, "stdin", b"x").unwrap_err().words(), ("failed_precondition", "STDIN_CLOSED"));
}

#[test]
fn gives_a_terminal_its_size_and_resizes_it() {
    let agent = Agent::start();
    let script = "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done";
    let request = json!({
        "process": { "cmd": "/bin/sh", "args": ["-c", script] }, "pty": { "size": { "cols": 100, "rows": 30 } },
    });
    let mut events = agent.start_process(&request);
    let pid = events.pid();
    assert_eq!(events.until("ready").text().lines().next(), Some("30 100"));
    let update = json!({ "process": { "pid": pid }, "pty": { "size": { "cols": 132, "rows": 43 } } });
    agent.call("process.Process/Update", &update).unwrap();
    assert!(events.rest().text().contains("43 132"));
}

#[test]
fn is_a_real_terminal_on_all_three_descriptors_with_job_control() {
    let agent = Agent::start();
    let script = "tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo $TERM; exec cat";
    let mut events =
        agent.start_process(&json!({ "process": { "cmd": "/bin/sh", "args": ["-c", script] }, "pty": {} }));
    let pid = events.pid();
    let head = events.until("xterm-256color").text();
    assert!(head.starts_with("/dev/pts/"), "{head}");
    send(&agent, pid, "pty", b"hello\n").unwrap();
    assert_eq!(events.until("hello\r\nhello\r\n").text().matches("hello").count(), 2, "an echo and cat's copy");
    assert_eq!(send(&agent, pid, "stdin", b"x").unwrap_err().words(), ("failed_precondition", "HAS_PTY"));
    assert_eq!(close(&agent, pid).unwrap_err().words(), ("failed_precondition", "HAS_PTY"));
    // Ctrl-C reaches the foreground group through the terminal.
    send(&agent, pid, "pty", b"\x03").unwrap();
    assert_eq!(events.rest().end["status"], "signal: interrupt");
}

#[test]
fn keeps_every_keystroke_in_order() {
    let agent = Agent::start();
    let request = json!({ "process": { "cmd": "/bin/sh", "args": ["-c", "stty raw -echo; echo ready; head -c 2000"] }, "pty": {} });
    let mut events = agent.start_process(&request);
    let pid = events.pid();
    events.until("ready");
    let keys: String = (0..2000).map(|n| char::from(b'a' + n as u8 % 26)).collect();
    for key in keys.as_bytes().chunks(8) {
        send(&agent, pid, "pty", key).unwrap();
    }
    assert!(events.rest().text().ends_with(&keys));
}

//! Terminals that outlive their viewers: who comes later sees what is shown, and then everything.

use crate::support::{Agent, Events, Refusal, Scratch};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

fn open(agent: &Agent, script: &str) -> Events {
    let process = json!({ "cmd": "/bin/sh", "args": ["-c", script] });
    let size = json!({ "cols": 40, "rows": 10 });
    agent.start_process(&json!({ "process": process, "pty": { "size": size }, "tag": "tty" }))
}

fn try_keys(agent: &Agent, keys: &[u8]) -> Result<Value, Refusal> {
    let input = json!({ "pty": STANDARD.encode(keys) });
    agent.call("process.Process/SendInput", &json!({ "process": { "tag": "tty" }, "input": input }))
}

fn keys(agent: &Agent, keys: &[u8]) {
    try_keys(agent, keys).unwrap();
}

/// A viewer that comes later, the size and contents that it is painted first, and their number.
fn view(agent: &Agent) -> (Events, Value, String, u64) {
    let request = json!({ "process": { "tag": "tty" }, "screen": true });
    let mut events = agent.stream("process.Process/Connect", &request, &[]);
    events.pid();
    let event = events.next().unwrap().expect("a second event")["event"].clone();
    let screen = &event["screen"];
    let contents = STANDARD.decode(screen["contents"].as_str().expect("the second event is screen")).unwrap();
    let sequence = event["sequence"].as_str().map_or(0, |n| n.parse().unwrap());
    (events, screen["size"].clone(), String::from_utf8(contents).unwrap(), sequence)
}

#[test]
fn paints_a_viewer_who_comes_later_what_is_shown_and_goes_on_behind_that() {
    let agent = Agent::start();
    let mut first = open(&agent, "stty -echo; printf 'gone\\033[2J\\033[H\\033[31mred'; read x; printf \"and $x\"");
    first.pid();
    let so_far = first.until("red");
    let (mut later, size, contents, sequence) = view(&agent);
    assert_eq!(size, json!({ "cols": 40, "rows": 10 }));
    assert!(contents.contains("\u{1b}[31mred") && !contents.contains("gone"), "{contents:?}");
    assert_eq!(Some(&sequence), so_far.sequences.last());
    keys(&agent, b"more\n");
    for viewer in [&mut first, &mut later] {
        let rest = viewer.rest();
        assert_eq!(rest.text(), "and more");
        assert_eq!(rest.sequences[0], sequence + 1, "nothing is missing behind the picture");
    }
    let (mut after_its_end, _, contents, _) = view(&agent);
    assert!(contents.contains("and more"), "{contents:?}");
    assert!(!after_its_end.rest().end.is_null());
}

#[test]
fn paints_at_the_size_that_it_has_now() {
    let agent = Agent::start();
    let mut first = open(&agent, "echo one; read x");
    first.pid();
    first.until("one");
    let update = json!({ "process": { "tag": "tty" }, "pty": { "size": { "cols": 65535, "rows": 3 } } });
    agent.call("process.Process/Update", &update).unwrap();
    let (_viewer, size, contents, _) = view(&agent);
    assert_eq!(size, json!({ "cols": 65535, "rows": 3 }));
    assert!(contents.contains("one"));
}

#[test]
fn has_no_picture_of_what_is_no_terminal() {
    let agent = Agent::start();
    let mut plain = agent.start_process(&json!({ "process": { "cmd": "/bin/cat" }, "tag": "tty" }));
    let pid = plain.pid();
    for after in [json!({}), json!({ "afterSequence": "0" })] {
        let mut request = json!({ "process": { "tag": "tty" }, "screen": true });
        request.as_object_mut().unwrap().extend(after.as_object().unwrap().clone());
        let refusal = agent.stream("process.Process/Connect", &request, &[]).refusal();
        assert_eq!(refusal.words(), ("failed_precondition", "NO_PTY"));
    }
    let signal = json!({ "process": { "pid": pid }, "signal": 15, "foreground": true });
    let refusal = agent.call("process.Process/SendSignal", &signal).unwrap_err();
    assert_eq!(refusal.words(), ("failed_precondition", "NO_PTY"));
    let mut terminal = open(&agent, "read x");
    let terminal = terminal.pid();
    let listed = agent.listed();
    let has_pty = |pid: u32| listed.iter().find(|p| p["pid"] == pid).and_then(|p| p["hasPty"].as_bool());
    assert_eq!((has_pty(pid), has_pty(terminal)), (None, Some(true)));
}

#[test]
fn viewers_who_come_in_the_midst_of_much_output_miss_nothing_of_it() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let stop = scratch.at("stop");
    let script = format!("i=0; while [ ! -e {stop} ]; do echo line $i; i=$((i+1)); done; echo over; read x");
    let mut first = open(&agent, &script);
    first.pid();
    first.until("line 100\r");
    // All of them read, since the slowest sets the pace.
    let first = std::thread::spawn(move || first.until("over\r\n"));
    let (midst, in_midst) = std::sync::mpsc::channel();
    let viewers: Vec<_> = (0..5)
        .map(|_| view(&agent))
        .map(|(mut viewer, _, contents, sequence)| {
            let midst = midst.clone();
            std::thread::spawn(move || {
                let some = viewer.until("00\r\nline ");
                midst.send(()).unwrap();
                (some, viewer.until("over\r\n"), contents, sequence)
            })
        })
        .collect();
    for _ in &viewers {
        in_midst.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    scratch.file("stop", "", 0o644);
    first.join().unwrap();
    for viewer in viewers {
        // The last whole line of the picture, and what came behind it: one by one up to the last.
        let (some, rest, contents, sequence) = viewer.join().unwrap();
        assert_eq!(some.sequences.first(), Some(&(sequence + 1)));
        let behind = some.text() + &rest.text();
        let numbers: Vec<u32> =
            behind.split("line ").skip(1).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a line is missing");
        let painted = contents
            .rsplit("line ")
            .find_map(|line| line.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse::<u32>().ok()));
        assert!(painted.is_some_and(|n| n <= numbers[0]), "{painted:?} then {}", numbers[0]);
    }
    keys(&agent, b"\n");
}

#[test]
fn ends_no_event_inside_a_character_whose_rest_follows() {
    let agent = Agent::start();
    // Three bytes each, behind one: never in step with the 4 KiB that the kernel gives at once.
    let script = "stty -echo raw; printf x; i=0; s='\u{20ac}\u{4e2d}\u{1f600}'; \
        while [ $i -lt 9 ]; do s=$s$s; i=$((i+1)); done; i=0; while [ $i -lt 50 ]; do printf %s \"$s\"; i=$((i+1)); done";
    let mut events = open(&agent, script);
    events.pid();
    let mut text = String::new();
    while let Some(message) = events.next().unwrap() {
        let Some(bytes) = message["event"]["data"]["pty"].as_str() else { continue };
        text += &String::from_utf8(STANDARD.decode(bytes).unwrap()).expect("whole characters");
    }
    assert_eq!(text.chars().count(), 1 + 3 * 512 * 50);
}

#[test]
fn carries_random_bytes_through_a_raw_terminal_as_they_are() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let copy = scratch.at("copy");
    let mut events = open(&agent, &format!("stty raw -echo; head -c 1048576 /dev/urandom | tee {copy}"));
    events.pid();
    let run = events.rest();
    assert!(run.pty == fs::read(copy).unwrap(), "the bytes differ");
    assert!(run.largest <= 32 * 1024, "an event of {} bytes", run.largest);
}

#[test]
fn a_terminal_that_ends_while_keys_wait_for_it_keeps_nobody_waiting() {
    let agent = Agent::start();
    for _ in 0..10 {
        let mut events = open(&agent, "stty raw -echo; echo deaf; while :; do sleep 0.1; done");
        let pid = events.pid();
        events.until("deaf");
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..2).map(|_| scope.spawn(|| try_keys(&agent, &vec![b'x'; 1 << 20]))).collect();
            // Some of it is in the terminal when it hangs up: its signals are still taken meanwhile.
            std::thread::sleep(Duration::from_millis(500));
            agent.call("process.Process/SendSignal", &json!({ "process": { "pid": pid }, "signal": 9 })).unwrap();
            for sender in waiting {
                let refusal = sender.join().unwrap().unwrap_err();
                assert!(["STDIN_CLOSED", "PROCESS_NOT_FOUND"].contains(&refusal.words().1), "{refusal:?}");
            }
        });
        events.rest();
        assert!(agent.listed().is_empty());
    }
}

#[test]
fn sends_a_signal_to_what_runs_in_the_foreground() {
    let agent = Agent::start();
    let mut events = open(&agent, "set -m; sh -c 'echo up; exec sleep 600'; echo job $?; exec cat");
    let pid = events.pid();
    let signal = |number: u32| {
        let request = json!({ "process": { "pid": pid }, "signal": number, "foreground": true });
        agent.call("process.Process/SendSignal", &request).unwrap();
    };
    events.until("up");
    signal(15);
    events.until("job 143");
    // Now the shell's own group is in the foreground.
    signal(9);
    assert_eq!(events.rest().end["status"], "signal: killed");
}

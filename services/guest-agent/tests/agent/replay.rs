//! Numbered output: who reconnects says what was seen last and loses nothing, gets nothing twice.

use crate::support::{Agent, Events, Run, eventually, resident, sh};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn connect(agent: &Agent, pid: u32, after: Option<u64>) -> Events {
    let mut request = json!({ "process": { "pid": pid } });
    if let Some(after) = after {
        request["afterSequence"] = after.to_string().into();
    }
    agent.stream("process.Process/Connect", &request, &[])
}

fn input(agent: &Agent, pid: u32, text: &str) {
    let bytes = STANDARD.encode(text);
    agent
        .call("process.Process/SendInput", &json!({ "process": { "pid": pid }, "input": { "stdin": bytes } }))
        .unwrap();
}

fn numbered_from(run: &Run, first: u64) -> bool {
    run.sequences.iter().zip(first..).all(|(got, want)| *got == want)
}

fn shell(script: &str) -> Value {
    json!({ "process": { "cmd": "/bin/sh", "args": ["-c", script] } })
}

#[test]
fn numbers_output_and_end_one_by_one_from_one() {
    let agent = Agent::start();
    let mut events = agent.sh("for i in 1 2 3 4; do echo $i; echo $i >&2; done; exit 3");
    events.pid();
    let run = events.rest();
    assert!(run.sequences.len() >= 3 && numbered_from(&run, 1), "{:?}", run.sequences);
}

#[test]
fn a_client_that_comes_back_again_and_again_misses_and_repeats_no_byte() {
    let agent = Agent::start();
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    let mut events = agent.start_process(&shell(script));
    let pid = events.pid();
    let (mut text, mut seen) = (Vec::new(), 0);
    while let Some(message) = events.next().unwrap() {
        let mut run = Run::default();
        run.take(&message["event"]);
        assert!(run.sequences.is_empty() || run.sequences == [seen + 1], "{seen} then {:?}", run.sequences);
        seen += run.sequences.len() as u64;
        text.extend(run.stdout);
        // Leaves in the midst of it, again and again.
        if run.end.is_null() && seen % 7 == 3 {
            events = connect(&agent, pid, Some(seen));
            assert_eq!(events.pid(), pid);
        }
    }
    let want: String = (0..3000).map(|i| format!("line {i}\n")).collect();
    assert!(text == want.as_bytes(), "{} bytes of {}", text.len(), want.len());
}

#[test]
fn several_clients_get_the_same_events_under_the_same_numbers() {
    let agent = Agent::start();
    let mut first = agent.start_process(&shell("read x; seq 1 5000; exit 9"));
    let pid = first.pid();
    let mut others: Vec<Events> = (0..4).map(|n| connect(&agent, pid, (n % 2 == 0).then_some(0))).collect();
    for events in &mut others {
        events.pid();
    }
    input(&agent, pid, "go\n");
    let run = first.rest();
    for events in &mut others {
        let other = events.rest();
        assert_eq!((&other.stdout, &other.sequences, &other.end), (&run.stdout, &run.sequences, &run.end));
    }
    assert!(numbered_from(&run, 1) && run.end["exitCode"] == 9);
}

#[test]
fn a_process_that_ended_can_be_read_but_neither_steered_nor_listed() {
    let agent = Agent::start();
    let request = json!({ "process": { "cmd": "/bin/sh", "args": ["-c", "echo said; exit 4"] }, "tag": "gone" });
    let mut events = agent.start_process(&request);
    let pid = events.pid();
    let run = events.rest();
    assert!(agent.listed().is_empty());
    for (request, text) in [
        (json!({ "process": { "tag": "gone" }, "afterSequence": "0" }), "said\n"),
        (json!({ "process": { "tag": "gone" }, "afterSequence": "2" }), ""),
        (json!({ "process": { "pid": pid } }), ""),
    ] {
        let mut again = agent.stream("process.Process/Connect", &request, &[]);
        assert_eq!(again.pid(), pid);
        let replayed = again.rest();
        assert_eq!((replayed.text().as_str(), &replayed.end), (text, &run.end), "{request}");
        assert_eq!(replayed.sequences.last(), run.sequences.last());
    }
    let refusal = agent.call("process.Process/CloseStdin", &json!({ "process": { "pid": pid } })).unwrap_err();
    assert_eq!(refusal.words(), ("not_found", "PROCESS_NOT_FOUND"));
}

#[test]
fn names_the_oldest_that_is_kept_when_what_is_asked_for_is_gone() {
    let agent = Agent::start();
    let mut events = agent.start_process(&shell("head -c 4000000 /dev/zero; read x; read y"));
    let pid = events.pid();
    let mut run = Run::default();
    while run.stdout.len() < 4_000_000 {
        run.take(&events.next().unwrap().unwrap()["event"]);
    }
    let refusal = connect(&agent, pid, Some(0)).refusal();
    assert_eq!(refusal.words(), ("out_of_range", "REPLAY_GONE"));
    let oldest: u64 = refusal.metadata("oldest_sequence").and_then(|text| text.parse().ok()).unwrap();
    let mut again = connect(&agent, pid, Some(oldest - 1));
    again.pid();
    agent.call("process.Process/CloseStdin", &json!({ "process": { "pid": pid } })).unwrap();
    let replayed = again.rest();
    let kept = replayed.stdout.len();
    assert!((1 << 20) - 65_536 < kept && kept <= 1 << 20, "{kept} bytes were kept");
    assert!(numbered_from(&replayed, oldest));
    let future = connect(&agent, pid, Some(1_000_000)).refusal();
    assert_eq!(future.words(), ("out_of_range", "REPLAY_GONE"), "what never was is not waited for");
}

#[test]
fn one_that_never_reads_and_then_dies_lets_the_others_go_on() {
    let agent = Agent::start();
    let mut reader = agent.start_process(&shell("read x; head -c 50000000 /dev/zero"));
    let pid = reader.pid();
    let mut dead = connect(&agent, pid, None);
    dead.pid();
    input(&agent, pid, "go\n");
    let got = Arc::new(AtomicUsize::new(0));
    let counted = got.clone();
    let reading = std::thread::spawn(move || {
        while let Some(message) = reader.next().unwrap() {
            let mut run = Run::default();
            run.take(&message["event"]);
            counted.fetch_add(run.stdout.len(), Ordering::Relaxed);
        }
    });
    // Its buffers fill, then everybody waits for it.
    let (mut last, mut since) = (0, Instant::now());
    eventually("the process comes to a halt", || {
        let now = got.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        last > 0 && since.elapsed() > Duration::from_millis(500)
    });
    assert!(last < 50_000_000, "nothing was held back");
    drop(dead);
    reading.join().unwrap();
    assert_eq!(got.load(Ordering::Relaxed), 50_000_000);
}

#[test]
fn keeps_a_bounded_amount_of_what_ended() {
    let agent = Agent::start();
    let mut last = 0;
    for _ in 0..40 {
        let mut events = agent.start_process(&sh("head -c 1500000 /dev/zero"));
        last = events.pid();
        events.rest();
    }
    connect(&agent, last, None).run();
    eventually("at most 16 MiB of their output is kept", || resident(agent.pid()) < 40_000);
}

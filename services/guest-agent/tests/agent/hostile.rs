//! Clients that are broken or mean: each is refused or dropped, and costs the agent nothing that stays.

use crate::support::{Agent, Exchange, Scratch, descriptors, envelope, eventually, resident, thorough, threads};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};

const METHODS: [&str; 8] = [
    "process.Process/Start",
    "process.Process/Connect",
    "process.Process/SendInput",
    "process.Process/StreamInput",
    "filesystem.Filesystem/Stat",
    "filesystem.Filesystem/WatchDir",
    "wrenn.agent.v1.AgentService/Init",
    "grpc.health.v1.Health/Check",
];

/// Always the same numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], u32::try_from(message.len()).unwrap().to_be_bytes().as_slice(), message].concat()
}

fn gzipped(data: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(data).unwrap());
        gzip.wait_with_output().unwrap().stdout
    })
}

fn assert_alive(agent: &Agent) {
    assert_eq!(agent.sh("echo alive").run().text(), "alive\n");
}

#[test]
fn survives_thousands_of_malformed_messages_in_every_encoding() {
    let agent = Agent::start();
    let before = resident(agent.pid());
    let mut dice = Dice(7);
    // Fields 1 and 2 with strings and numbers: the beginnings of most messages here.
    let plausible = b"\x0a\x0e\x0a\x04true\x12\x01x\x22\x01/\x10\x01\x1a\x03tag\x20\x01";
    let mut exchange = Exchange::open(agent.address);
    for _ in 0..thorough(4000) {
        let mut message = plausible[..dice.roll(plausible.len() + 1)].to_vec();
        for _ in 0..dice.roll(6) {
            let at = dice.roll(message.len() + 1);
            match dice.roll(3) {
                0 => message.insert(at, dice.roll(256) as u8),
                1 if at < message.len() => message[at] = dice.roll(256) as u8,
                _ => message.truncate(at),
            }
        }
        let method = METHODS[dice.roll(METHODS.len())];
        let (kind, body) = match dice.roll(5) {
            0 => ("application/proto", message),
            1 => ("application/json", message),
            2 => ("application/connect+proto", framed(&message)),
            3 => ("application/grpc-web+proto", framed(&message)),
            _ => ("application/connect+proto", message),
        };
        // Some of these are good calls, and a stream that is one does not end: no pipe is kept open for it.
        let headers = [("content-type", kind), ("connect-timeout-ms", "200"), ("connection", "close")];
        exchange.send("POST", &format!("/{method}"), &headers, &body);
        let status = exchange.full_head().status;
        assert!((200..600).contains(&status), "{method} {kind} {body:?}");
        exchange = Exchange::open(agent.address);
    }
    assert_alive(&agent);
    assert!(resident(agent.pid()) < before + 30_000, "{before} KiB became {}", resident(agent.pid()));
}

#[test]
fn refuses_what_is_nested_too_deep_too_long_or_blown_up() {
    let agent = Agent::start();
    let before = resident(agent.pid());
    let post = |method: &str, headers: &[(&str, &str)], body: &[u8]| {
        let answer = agent.http("POST", &format!("/{method}"), headers, body);
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    };
    let groups = [0x7b; 200_000];
    let (status, _) = post("filesystem.Filesystem/Stat", &[("content-type", "application/proto")], &groups);
    assert_eq!(status, 400);
    let brackets = format!("{{\"path\":\"/\",\"unknown\":{}", "[".repeat(200_000));
    let (status, _) = post("filesystem.Filesystem/Stat", &[("content-type", "application/json")], brackets.as_bytes());
    assert_eq!(status, 400);
    for length in [u32::MAX, 1 << 31, 5 << 20] {
        let head = [&[0], length.to_be_bytes().as_slice()].concat();
        let (_, text) = post("process.Process/Start", &[("content-type", "application/connect+proto")], &head);
        assert!(text.contains("resource_exhausted") || text.contains("invalid_argument"), "{length}: {text}");
    }
    let long = vec![b' '; 5 << 20];
    let (status, text) = post("filesystem.Filesystem/Stat", &[("content-type", "application/json")], &long);
    assert!(status >= 400 && text.contains("resource_exhausted"), "{status} {text}");
    let bomb = gzipped(&vec![b' '; 256 << 20]);
    assert!(bomb.len() < 1 << 20);
    for (kind, coding, body) in [
        ("application/json", "content-encoding", bomb.clone()),
        ("application/connect+json", "connect-content-encoding", {
            let mut framed = framed(&bomb);
            framed[0] = 1;
            framed
        }),
    ] {
        let method = if kind == "application/json" { "filesystem.Filesystem/Stat" } else { "process.Process/Start" };
        let (_, text) = post(method, &[("content-type", kind), (coding, "gzip")], &body);
        assert!(text.contains("resource_exhausted"), "{text}");
    }
    let (_, text) = post(
        "filesystem.Filesystem/Stat",
        &[("content-type", "application/json"), ("content-encoding", "gzip")],
        b"no gzip",
    );
    assert!(text.contains("\"code\""), "{text}");
    assert!(resident(agent.pid()) < before + 40_000, "{before} KiB became {}", resident(agent.pid()));
    assert_alive(&agent);
}

#[test]
fn refuses_heads_that_are_too_large() {
    let agent = Agent::start();
    for (headers, name) in [(1, "x".repeat(300_000)), (300, "x".to_owned())] {
        let mut exchange = Exchange::open(agent.address);
        let lines: String = (0..headers).map(|n| format!("a{n}: {name}\r\n")).collect();
        // The agent may close before all is sent.
        let _ = exchange.stream().write_all(format!("GET /health HTTP/1.1\r\nhost: x\r\n{lines}\r\n").as_bytes());
        assert_eq!(exchange.full_head().status, 431);
    }
    assert_eq!(agent.http("GET", "/health", &[("cookie", &"x".repeat(60_000))], b"").status, 204);
}

#[test]
fn drops_connections_that_ask_for_nothing_and_serves_the_others_meanwhile() {
    let agent = Agent::start();
    let before = descriptors(agent.pid());
    let beginnings: [&[u8]; 5] = [
        b"",
        b"PRI * HTTP/2.0\r\n",
        b"GET /health HTT",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost:",
    ];
    let mut waiting: Vec<Exchange> = beginnings
        .into_iter()
        .map(|bytes| {
            let mut exchange = Exchange::open(agent.address);
            exchange.stream().write_all(bytes).unwrap();
            exchange
        })
        .collect();
    assert_alive(&agent);
    for (exchange, bytes) in waiting.iter_mut().zip(beginnings) {
        eventually("it is dropped", || exchange.is_over());
        assert!(descriptors(agent.pid()) < before + 6, "{bytes:?}");
    }
    eventually("nothing is left of them", || descriptors(agent.pid()) <= before);
}

#[test]
fn more_connections_than_it_takes_wait_their_turn() {
    let agent = Agent::start();
    let idle: Vec<_> = (0..1100).map(|_| std::net::TcpStream::connect(agent.address).unwrap()).collect();
    eventually("as many as it takes are taken", || descriptors(agent.pid()) >= 1024);
    assert!(descriptors(agent.pid()) < 1024 + 20);
    // Answered once those that ask for nothing are dropped.
    assert_eq!(agent.http("GET", "/health", &[], b"").status, 204);
    drop(idle);
}

#[test]
fn a_client_that_leaves_in_mid_stream_frees_everything() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let cat = |tag: &str| json!({ "process": { "cmd": "/bin/cat" }, "tag": tag });
    let mut kept = agent.start_process(&cat("kept"));
    kept.pid();
    agent.sh("true").run();
    let before = (descriptors(agent.pid()), threads(agent.pid()));
    for _ in 0..5 {
        let streams: Vec<(&str, Value)> = vec![
            ("process.Process/Connect", json!({ "process": { "tag": "kept" } })),
            ("filesystem.Filesystem/WatchDir", json!({ "path": scratch.path(), "recursive": true })),
            ("wrenn.agent.v1.AgentService/WatchPorts", json!({})),
        ];
        let left: Vec<_> =
            (0..10).flat_map(|_| &streams).map(|(method, request)| agent.stream(method, request, &[])).collect();
        let mut half = Exchange::open(agent.address);
        let message = envelope(&json!({ "start": { "process": { "tag": "kept" } } }));
        let head = "POST /process.Process/StreamInput HTTP/1.1\r\nhost: x\r\ncontent-type: application/connect+json\r\ncontent-length: 10000\r\n\r\n";
        half.stream().write_all(&[head.as_bytes(), &message].concat()).unwrap();
        eventually("all are served", || threads(agent.pid()) >= before.1 + 10);
        drop((left, half));
        eventually("all is freed", || (descriptors(agent.pid()), threads(agent.pid())) <= before);
    }
    agent.call("process.Process/CloseStdin", &json!({ "process": { "tag": "kept" } })).unwrap();
    assert_eq!(kept.rest().end["exited"], true);
}

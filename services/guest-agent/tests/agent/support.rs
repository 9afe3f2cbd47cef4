//! A served agent, a scratch directory, and a client that speaks Connect JSON by hand over HTTP/1.1, so
//! that the tests depend on none of the code under test.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// For what must happen soon: generous, since the machine may be busy.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Agent {
    child: Child,
    pub address: SocketAddr,
}

impl Agent {
    pub fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_wrenn-agent"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .expect("the agent starts");
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().parse().expect("the agent says where it listens");
        Self { child, address }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One unary call; any other answer than 200 is the refusal.
    pub fn call(&self, method: &str, request: &Value) -> Result<Value, Refusal> {
        self.call_as("", method, request)
    }

    pub fn call_as(&self, user: &str, method: &str, request: &Value) -> Result<Value, Refusal> {
        let headers = [("content-type", "application/json"), ("authorization", &basic(user))];
        let answer = self.http("POST", &format!("/{method}"), &headers, request.to_string().as_bytes());
        match answer.status {
            200 => Ok(serde_json::from_slice(&answer.body).unwrap()),
            _ => Err(Refusal::of(&serde_json::from_slice(&answer.body).unwrap())),
        }
    }

    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut exchange = Exchange::open(self.address);
        exchange.send(method, path, headers, body);
        exchange.answer()
    }

    /// Starts a process as the default user.
    pub fn start_process(&self, request: &Value) -> Events {
        self.stream("process.Process/Start", request, &[])
    }

    /// `sh -c script`, with nothing on its stdin.
    pub fn sh(&self, script: &str) -> Events {
        self.start_process(&sh(script))
    }

    pub fn stream(&self, method: &str, request: &Value, headers: &[(&str, &str)]) -> Events {
        let mut exchange = Exchange::open(self.address);
        let headers = [&[("content-type", "application/connect+json")], headers].concat();
        exchange.send("POST", &format!("/{method}"), &headers, &envelope(request));
        let (status, is_chunked) = exchange.head();
        assert_eq!((status, is_chunked), (200, true), "streams answer 200 and tell errors at their end");
        Events { exchange, chunk: Vec::new(), is_over: false }
    }

    pub fn listed(&self) -> Vec<Value> {
        let answer = self.call("process.Process/List", &json!({})).unwrap();
        answer["processes"].as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Agent {
    /// Nothing that a test started outlives it: who loses its parent comes to the agent, until none is left.
    fn drop(&mut self) {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            let children = fs::read_to_string(&path).unwrap_or_default();
            if children.is_empty() {
                break;
            }
            for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                // SAFETY: the agent, alive and ours, has not reaped this child: at worst it is a zombie.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub fn sh(script: &str) -> Value {
    json!({ "process": { "cmd": "/bin/sh", "args": ["-c", script] }, "stdin": false })
}

pub fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:")))
}

pub fn envelope(message: &Value) -> Vec<u8> {
    let json = message.to_string().into_bytes();
    [&[0], u32::try_from(json.len()).unwrap().to_be_bytes().as_slice(), &json].concat()
}

/// An error in the words that clients branch on.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    pub code: String,
    pub reason: String,
    pub message: String,
}

impl Refusal {
    pub fn of(error: &Value) -> Self {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        // google.rpc.ErrorInfo: field 1 is the reason, so its length is the second byte.
        let info = STANDARD.decode(text(&error["details"][0]["value"]).trim_end_matches('='));
        let info = info
            .or_else(|_| base64::engine::general_purpose::STANDARD_NO_PAD.decode(text(&error["details"][0]["value"])));
        let info = info.unwrap_or_default();
        let reason = info.get(1).and_then(|&n| info.get(2..2 + usize::from(n))).unwrap_or_default();
        Self {
            code: text(&error["code"]),
            reason: String::from_utf8_lossy(reason).into_owned(),
            message: text(&error["message"]),
        }
    }

    pub fn words(&self) -> (&str, &str) {
        (&self.code, &self.reason)
    }
}

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// One HTTP/1.1 request and its answer.
pub struct Exchange(BufReader<TcpStream>);

impl Exchange {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: guest\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let request = [head.as_bytes(), b"\r\n", body].concat();
        self.0.get_mut().write_all(&request).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the agent goes on answering");
        line.trim_end().to_owned()
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.0.read_exact(&mut bytes).expect("the agent goes on answering");
        bytes
    }

    /// Status and whether the body comes in chunks.
    fn head(&mut self) -> (u16, bool) {
        let (status, is_chunked, _) = self.full_head();
        (status, is_chunked)
    }

    fn full_head(&mut self) -> (u16, bool, usize) {
        let status = self.line().split(' ').nth(1).expect("a status line").parse().unwrap();
        let (mut is_chunked, mut length) = (false, 0);
        loop {
            let line = self.line().to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("transfer-encoding", "chunked")) => is_chunked = true,
                Some(("content-length", n)) => length = n.parse().unwrap(),
                Some(_) => {}
                None => return (status, is_chunked, length),
            }
        }
    }

    /// None: the last one.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let n = usize::from_str_radix(&self.line(), 16).expect("a chunk");
        let chunk = self.bytes(n);
        self.line();
        (n > 0).then_some(chunk)
    }

    pub fn answer(&mut self) -> Answer {
        let (status, is_chunked, length) = self.full_head();
        let body = match is_chunked {
            true => std::iter::from_fn(|| self.chunk()).flatten().collect(),
            false => self.bytes(length),
        };
        Answer { status, body }
    }

    /// Waits for the other side to close.
    pub fn is_closed_soon(&mut self) -> bool {
        matches!(self.0.fill_buf(), Ok([])) || self.0.fill_buf().is_err_and(|e| e.raw_os_error() == Some(104))
    }
}

/// The messages of a stream. Dropping it is a client that leaves.
pub struct Events {
    exchange: Exchange,
    chunk: Vec<u8>,
    is_over: bool,
}

impl Events {
    fn take(&mut self, n: usize) -> Vec<u8> {
        while self.chunk.len() < n {
            let more = self.exchange.chunk().expect("streams end with an end message");
            self.chunk.extend(more);
        }
        self.chunk.drain(..n).collect()
    }

    /// The next message; None at a good end, the refusal at a bad one.
    pub fn next(&mut self) -> Result<Option<Value>, Refusal> {
        if self.is_over {
            return Ok(None);
        }
        let head = self.take(5);
        let body = self.take(u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize);
        let message: Value = serde_json::from_slice(&body).unwrap();
        if head[0] & 2 == 0 {
            return Ok(Some(message));
        }
        self.is_over = true;
        message.get("error").map_or(Ok(None), |error| Err(Refusal::of(error)))
    }

    pub fn refusal(mut self) -> Refusal {
        self.next().expect_err("the call is refused")
    }

    /// The pid of the first event.
    pub fn pid(&mut self) -> u32 {
        let first = self.next().unwrap().expect("a start event");
        u32::try_from(first["event"]["start"]["pid"].as_u64().expect("the first event is start")).unwrap()
    }

    /// Everything up to the end, after the start has been read.
    pub fn rest(&mut self) -> Run {
        let mut run = Run::default();
        while let Some(message) = self.next().expect("the stream ends well") {
            assert!(run.end.is_null(), "nothing comes after the end");
            run.take(&message["event"]);
        }
        assert!(!run.end.is_null(), "the last event is end");
        run
    }

    pub fn run(mut self) -> Run {
        self.pid();
        self.rest()
    }

    /// Reads until the output so far holds `text`.
    pub fn until(&mut self, text: &str) -> Run {
        let mut run = Run::default();
        while !run.text().contains(text) {
            let message = self.next().unwrap().unwrap_or_else(|| panic!("{text:?} comes before the end: {run:?}"));
            run.take(&message["event"]);
        }
        run
    }
}

/// What a process did.
#[derive(Debug, Default)]
pub struct Run {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub pty: Vec<u8>,
    pub end: Value,
    pub keepalives: u32,
    pub largest: usize,
}

impl Run {
    fn take(&mut self, event: &Value) {
        for (channel, into) in [("stdout", &mut self.stdout), ("stderr", &mut self.stderr), ("pty", &mut self.pty)] {
            if let Some(bytes) = event["data"][channel].as_str() {
                let bytes = STANDARD.decode(bytes).unwrap();
                self.largest = self.largest.max(bytes.len());
                into.extend(bytes);
            }
        }
        self.keepalives += u32::from(event.get("keepalive").is_some());
        if let Some(end) = event.get("end") {
            self.end = end.clone();
        }
    }

    /// stdout or the terminal, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(if self.pty.is_empty() { &self.stdout } else { &self.pty }).into_owned()
    }
}

/// A directory that goes when the test ends.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("wrenn-agent-{}-{n}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        // The user `nobody` must be able to come here.
        fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub fn file(&self, name: &str, content: &str, mode: u32) -> String {
        let path = self.at(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

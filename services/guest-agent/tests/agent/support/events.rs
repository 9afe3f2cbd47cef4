//! The events of a process or a watch.

use super::{Exchange, Refusal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The messages of a stream. Dropping it is a client that leaves.
pub struct Events {
    exchange: Exchange,
    chunk: Vec<u8>,
    is_over: bool,
}

impl Events {
    pub fn of(exchange: Exchange) -> Self {
        Self { exchange, chunk: Vec::new(), is_over: false }
    }

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
        let mut searched = 0;
        // Not all of it each time: what comes may be megabytes. It may come in pieces.
        while !run.shown()[searched..].windows(text.len()).any(|at| at == text.as_bytes()) {
            searched = run.shown().len().saturating_sub(text.len());
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
    /// Of data and end.
    pub sequences: Vec<u64>,
}

impl Run {
    pub fn take(&mut self, event: &Value) {
        self.sequences.extend(event["sequence"].as_str().and_then(|n| n.parse::<u64>().ok()));
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
        String::from_utf8_lossy(self.shown()).into_owned()
    }

    fn shown(&self) -> &[u8] {
        if self.pty.is_empty() { &self.stdout } else { &self.pty }
    }
}

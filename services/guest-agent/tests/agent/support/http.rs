//! HTTP/1.1 by hand.

use super::SOON;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
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
    pub fn head(&mut self) -> (u16, bool) {
        let answer = self.full_head();
        (answer.status, answer.header("transfer-encoding") == "chunked")
    }

    /// All but the body.
    pub fn full_head(&mut self) -> Answer {
        let status = self.line().split(' ').nth(1).expect("a status line").parse().unwrap();
        let mut answer = Answer { status, headers: Vec::new(), body: Vec::new() };
        while let Some((name, value)) = self.line().split_once(": ") {
            answer.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        answer
    }

    /// The connection itself, for what `send` does not do.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }

    /// Reads and forgets so many bytes of a body.
    pub fn skim(&mut self, n: u64) -> u64 {
        std::io::copy(&mut self.0.by_ref().take(n), &mut std::io::sink()).unwrap()
    }

    /// None: the last one.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let n = usize::from_str_radix(&self.line(), 16).expect("a chunk");
        let chunk = self.bytes(n);
        self.line();
        (n > 0).then_some(chunk)
    }

    pub fn answer(&mut self) -> Answer {
        let mut answer = self.full_head();
        answer.body = match answer.header("transfer-encoding") {
            "chunked" => std::iter::from_fn(|| self.chunk()).flatten().collect(),
            _ => self.bytes(answer.header("content-length").parse().unwrap_or(0)),
        };
        answer
    }

    /// Whether the other side has closed; passes over what it said before.
    pub fn is_over(&mut self) -> bool {
        match self.0.fill_buf() {
            Ok([]) => true,
            Ok(said) => {
                let n = said.len();
                self.0.consume(n);
                false
            }
            Err(e) => e.raw_os_error() == Some(libc::ECONNRESET),
        }
    }

    /// Waits for the other side to close.
    pub fn is_closed_soon(&mut self) -> bool {
        matches!(self.0.fill_buf(), Ok([])) || self.0.fill_buf().is_err_and(|e| e.raw_os_error() == Some(104))
    }
}

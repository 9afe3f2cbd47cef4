//! HTTP/1.1 by hand.

use super::SOON;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

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
    pub fn head(&mut self) -> (u16, bool) {
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
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
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

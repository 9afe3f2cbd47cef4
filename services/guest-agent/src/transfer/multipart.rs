//! multipart/form-data (RFC 7578) as it streams in: parts one after the other, and the data of each in
//! pieces. At most one piece and one part's head are in memory.

use crate::fault::{Fault, Outcome, Reason};
use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem::Finder;

/// Of one part's head.
const HEAD_BYTES: usize = 16 * 1024;
/// RFC 2046.
const BOUNDARY_CHARS: usize = 70;

/// Where the body's pieces come from; None at its end.
pub trait Pieces {
    async fn next(&mut self) -> Outcome<Option<Bytes>>;
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub filename: Option<String>,
}

pub struct Multipart<P> {
    pieces: P,
    buffer: BytesMut,
    delimiter: Finder<'static>,
}

fn bad(why: &str) -> Fault {
    Fault::new(Reason::BadInput, format!("multipart body: {why}"))
}

impl<P: Pieces> Multipart<P> {
    /// By the Content-Type header of the body.
    pub fn of(content_type: &str, pieces: P) -> Outcome<Self> {
        let boundary = parameter(content_type, "boundary").unwrap_or_default();
        if boundary.is_empty() || boundary.len() > BOUNDARY_CHARS {
            return Err(bad("the content type names no boundary of 1 to 70 characters"));
        }
        let delimiter = Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned();
        // As if a line had ended before the first boundary.
        Ok(Self { pieces, buffer: BytesMut::from(&b"\r\n"[..]), delimiter })
    }

    async fn fill(&mut self) -> Outcome<()> {
        let piece = self.pieces.next().await?.ok_or_else(|| bad("it ends before its last boundary"))?;
        self.buffer.extend_from_slice(&piece);
        Ok(())
    }

    /// Passes over what is left of the part before.
    pub async fn next_part(&mut self) -> Outcome<Option<Part>> {
        while self.next_data().await?.is_some() {}
        self.buffer.advance(self.delimiter.needle().len());
        while self.buffer.len() < 2 {
            self.fill().await?;
        }
        if self.buffer.starts_with(b"--") {
            return Ok(None);
        }
        let end = Finder::new(b"\r\n\r\n");
        loop {
            if let Some(at) = end.find(&self.buffer) {
                let head = self.buffer.split_to(at);
                self.buffer.advance(4);
                return part(&head).map(Some);
            }
            if self.buffer.len() > HEAD_BYTES {
                return Err(bad(&format!("a part's head is longer than {HEAD_BYTES} bytes")));
            }
            self.fill().await?;
        }
    }

    /// The next piece of this part; None at its end.
    pub async fn next_data(&mut self) -> Outcome<Option<Bytes>> {
        loop {
            let (ready, is_end) = match self.delimiter.find(&self.buffer) {
                Some(at) => (at, true),
                // The delimiter may have begun.
                None => (self.buffer.len().saturating_sub(self.delimiter.needle().len() - 1), false),
            };
            if ready > 0 {
                return Ok(Some(self.buffer.split_to(ready).freeze()));
            }
            if is_end {
                return Ok(None);
            }
            self.fill().await?;
        }
    }

    /// Reads what comes after the last boundary, so that the body has come whole.
    pub async fn finish(mut self) -> Outcome<()> {
        while self.pieces.next().await?.is_some() {}
        Ok(())
    }
}

fn part(head: &[u8]) -> Outcome<Part> {
    let head = std::str::from_utf8(head).map_err(|_| bad("a part's head is not UTF-8"))?;
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    });
    let disposition = disposition.unwrap_or_default();
    Ok(Part { name: parameter(disposition, "name").unwrap_or_default(), filename: parameter(disposition, "filename") })
}

/// The value of `; name=value` or `; name="value"`.
fn parameter(header: &str, wanted: &str) -> Option<String> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after.trim_start());
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after.split_once(';')?.1;
    }
}

/// The first value and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            // Other backslashes are meant: some clients send Windows paths as they are.
            '\\' if chars.peek().is_some_and(|(_, next)| matches!(next, '"' | '\\')) => {
                value.extend(chars.next().map(|(_, next)| next));
            }
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body in pieces of that many bytes.
    struct Cut(Bytes, usize);

    impl Pieces for Cut {
        async fn next(&mut self) -> Outcome<Option<Bytes>> {
            let n = self.1.min(self.0.len());
            Ok((n > 0).then(|| self.0.split_to(n)))
        }
    }

    async fn read(body: &[u8], cut: usize) -> Outcome<Vec<(Part, Vec<u8>)>> {
        let pieces = Cut(Bytes::copy_from_slice(body), cut);
        let mut multipart = Multipart::of("multipart/form-data; charset=x; boundary=\"b o\"", pieces)?;
        let mut parts = Vec::new();
        while let Some(part) = multipart.next_part().await? {
            let mut data = Vec::new();
            while let Some(piece) = multipart.next_data().await? {
                data.extend_from_slice(&piece);
            }
            parts.push((part, data));
        }
        multipart.finish().await.map(|()| parts)
    }

    fn file(filename: &str) -> Part {
        Part { name: "file".into(), filename: Some(filename.into()) }
    }

    #[tokio::test]
    async fn reads_the_same_parts_however_the_body_is_cut() -> Outcome<()> {
        let data = b"\r\n--b\r\n\r\n--b o\r--b o\0\xff";
        let body = [
            b"preamble\r\n--b o\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\";c.txt\"\r\nX: y\r\n\r\n".as_slice(),
            b"one\r\n--b o\r\ncontent-disposition:form-data;name=file;filename=/x/y\r\n\r\n",
            &data[..9],
            b"\r\n--b o \t\r\nContent-Disposition: form-data; name=other\r\n\r\n\r\n--b o--\r\nepilogue",
        ]
        .concat();
        for cut in (1..40).chain([body.len()]) {
            let parts = read(&body, cut).await?;
            let want = [
                (file("a \"b\";c.txt"), b"one".to_vec()),
                (file("/x/y"), data[..9].to_vec()),
                (Part { name: "other".into(), filename: None }, Vec::new()),
            ];
            assert_eq!(parts, want, "in pieces of {cut}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn refuses_a_body_that_is_cut_off_or_is_none() {
        let whole = b"--b o\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\ndata\r\n--b o--";
        assert!(read(whole, 7).await.is_ok());
        for end in 0..whole.len() - 1 {
            assert_eq!(read(&whole[..end], 7).await.err().map(|f| f.reason), Some(Reason::BadInput), "{end}");
        }
        let endless = [b"--b o\r\n".as_slice(), &[b'x'; HEAD_BYTES + 9]].concat();
        assert!(read(&endless, 1000).await.is_err());
        for bad in ["multipart/form-data", "multipart/form-data; boundary=", &format!("a; boundary={}", "x".repeat(71))]
        {
            assert!(Multipart::of(bad, Cut(Bytes::new(), 1)).is_err(), "{bad}");
        }
    }
}

//! A file on its way out. One thread reads it, with the rights of the user, a few chunks ahead of the client;
//! it ends with the file or with the client.

use super::Body;
use super::range::{Wanted, wanted};
use crate::fault::{Fault, Outcome, Reason};
use crate::files::content::{self, Content};
use crate::files::identity::spawn_as;
use crate::users::User;
use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Frame, SizeHint};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// Small enough to come from the heap: a fresh mapping for each would cost more than the copy.
const CHUNK_BYTES: usize = 64 * 1024;
const CHUNKS_AHEAD: usize = 4;

/// A file that is open but not read yet.
pub struct Download {
    name: String,
    /// None: nobody knows before it is read.
    len: Option<u64>,
    etag: String,
    /// Tells the reading thread which bytes; dropped, it ends.
    order: oneshot::Sender<(u64, u64)>,
    chunks: mpsc::Receiver<io::Result<Bytes>>,
}

pub async fn open(user: &User, path: PathBuf, permit: OwnedSemaphorePermit) -> Outcome<Download> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (tell, told) = oneshot::channel();
    spawn_as(user.clone(), move |ready| {
        let _permit = permit;
        let content = match ready.and_then(|()| content::open(&path)) {
            Ok(content) => content,
            // Who asked may have left.
            Err(fault) => return drop(tell.send(Err(fault))),
        };
        let (order, ordered) = oneshot::channel();
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let download = Download { name, len: content.len, etag: content.etag.clone(), order, chunks };
        if tell.send(Ok(download)).is_ok()
            && let Ok((from, len)) = ordered.blocking_recv()
        {
            read(content, from, len, &sender);
        }
    })?;
    told.await.unwrap_or_else(|_| Err(Fault::new(Reason::Internal, "the file was abandoned")))
}

fn read(content: Content, from: u64, len: u64, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    let mut file = content.file;
    let mut failed = file.seek(SeekFrom::Start(from)).err();
    let mut rest = len;
    while failed.is_none() && rest > 0 {
        let next = rest.min(CHUNK_BYTES as u64);
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        match file.by_ref().take(next).read_to_end(&mut chunk) {
            Ok(0) => return,
            Ok(n) => {
                rest -= n as u64;
                if chunks.blocking_send(Ok(chunk.into())).is_err() {
                    return;
                }
            }
            Err(e) => failed = Some(e),
        }
    }
    if let Some(e) = failed {
        // Who has left needs no reason.
        let _ = chunks.blocking_send(Err(e));
    }
}

impl Download {
    pub fn answer<B>(self, request: &Request<B>) -> Outcome<Response<Body>> {
        let text = |name: HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok());
        let mut response = Response::new(Either::Left(Full::default()));
        let set = |response: &mut Response<Body>, name: HeaderName, value: &str| {
            let value = HeaderValue::from_str(value).map_err(|e| Fault::internal("answer", e));
            value.map(|value| drop(response.headers_mut().insert(name, value)))
        };
        set(&mut response, header::ETAG, &self.etag)?;
        set(&mut response, header::ACCEPT_RANGES, if self.len.is_some() { "bytes" } else { "none" })?;
        if text(header::IF_NONE_MATCH)
            .is_some_and(|tags| tags.split(',').any(|t| [self.etag.as_str(), "*"].contains(&t.trim())))
        {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        set(&mut response, header::CONTENT_TYPE, "application/octet-stream")?;
        set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
        set(
            &mut response,
            header::CONTENT_DISPOSITION,
            &format!("attachment; filename*=UTF-8''{}", encoded(&self.name)),
        )?;
        let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|tag| tag == self.etag));
        let (from, len) = match self.len.map(|len| (len, wanted(range, len))) {
            None => (0, None),
            Some((len, Wanted::All)) => (0, Some(len)),
            Some((len, Wanted::Part(from, part))) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                set(&mut response, header::CONTENT_RANGE, &format!("bytes {from}-{}/{len}", from + part - 1))?;
                (from, Some(part))
            }
            Some((len, Wanted::Unsatisfiable)) => {
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                set(&mut response, header::CONTENT_RANGE, &format!("bytes */{len}"))?;
                return Ok(response);
            }
        };
        if let Some(len) = len {
            set(&mut response, header::CONTENT_LENGTH, &len.to_string())?;
        }
        if request.method() != Method::HEAD {
            // A thread that has gone leaves the body short, which the client sees.
            let _ = self.order.send((from, len.unwrap_or(u64::MAX)));
            *response.body_mut() = Either::Right(FileBody { chunks: self.chunks, rest: len });
        }
        Ok(response)
    }
}

/// RFC 8187.
fn encoded(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&b);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Exactly the bytes that were promised, or an error: a file that became shorter is never passed off as whole.
pub struct FileBody {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Option<u64>,
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.rest == Some(0) {
            return Poll::Ready(None);
        }
        self.chunks.poll_recv(cx).map(|chunk| match (chunk, self.rest) {
            (Some(Ok(bytes)), rest) => {
                self.rest = rest.map(|rest| rest.saturating_sub(bytes.len() as u64));
                Some(Ok(Frame::data(bytes)))
            }
            (Some(Err(e)), _) => Some(Err(e)),
            (None, None) => None,
            (None, Some(_)) => Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

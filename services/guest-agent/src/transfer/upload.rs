//! Files on their way in. One thread writes each, with the rights of the user, at most a few chunks behind
//! the client; it replaces the file when all has come, and else leaves it as it was.

use super::Transfers;
use super::multipart::{Multipart, Pieces};
use super::query::Query;
use crate::fault::{Fault, Outcome, Reason};
use crate::files::draft::Draft;
use crate::files::identity::spawn_as;
use crate::paths;
use crate::users::User;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

const CHUNKS_BEHIND: usize = 4;
/// Of one request.
const MAX_FILES: usize = 10_000;
/// How long a client may go on sending what nobody wants any more, so that it gets to read why.
const LEAVE_TO_FINISH: Duration = Duration::from_secs(10);

/// Describes what was written, as envd does. Some of the body is left if it was not needed.
pub async fn receive(
    headers: &HeaderMap,
    body: &mut Option<Incoming>,
    query: Query,
    user: User,
    transfers: &Transfers,
) -> Outcome<Vec<Value>> {
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (kind, coding) = (text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING));
    if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
        return Err(Fault::new(Reason::BadInput, format!("content encoding {coding:?} is not supported")));
    }
    match kind.get(..10) {
        Some(multipart) if multipart.eq_ignore_ascii_case("multipart/") => {
            form(kind, body, query, user, transfers).await
        }
        _ => raw(body, query, user, transfers).await,
    }
}

/// Reads on for a while after a refusal: a client that is cut off while it sends may never read why.
pub fn let_finish(body: Option<Incoming>) {
    if let Some(mut body) = body {
        let read = async move { while let Some(Ok(_)) = body.frame().await {} };
        tokio::spawn(tokio::time::timeout(LEAVE_TO_FINISH, read));
    }
}

/// The body stays with the caller, who may have to read on.
struct Body<'a>(&'a mut Option<Incoming>);

impl Pieces for Body<'_> {
    async fn next(&mut self) -> Outcome<Option<Bytes>> {
        while let Some(frame) = match self.0 {
            Some(body) => body.frame().await,
            None => None,
        } {
            let frame = frame.inspect_err(|_| drop(self.0.take()));
            let cut = |e| Fault::new(Reason::BadInput, format!("the body was cut off: {e}"));
            match frame.map_err(cut)?.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                // Trailers, which mean nothing here.
                _ => {}
            }
        }
        Ok(None)
    }
}

async fn raw(body: &mut Option<Incoming>, query: Query, user: User, transfers: &Transfers) -> Outcome<Vec<Value>> {
    let Some(path) = &query.path else { return Err(Fault::new(Reason::BadPath, "the query names no path")) };
    let path = named(path, &user)?;
    let mut upload = Upload::begin(user, path.clone(), query.mode, transfers.begin()?).await?;
    let mut body = Body(body);
    while let Some(data) = body.next().await? {
        upload.write(data).await?;
    }
    upload.commit().await?;
    Ok(vec![entry(&path)])
}

async fn form(
    kind: &str,
    body: &mut Option<Incoming>,
    query: Query,
    user: User,
    transfers: &Transfers,
) -> Outcome<Vec<Value>> {
    let mut form = Multipart::of(kind, Body(body))?;
    let mut written: Vec<PathBuf> = Vec::new();
    while let Some(part) = form.next_part().await? {
        if part.name != "file" {
            continue;
        }
        let asked = query.path.as_ref().or(part.filename.as_ref());
        let path = named(asked.ok_or_else(|| Fault::new(Reason::BadPath, "a file has no name"))?, &user)?;
        if written.contains(&path) || written.len() == MAX_FILES {
            let message = format!("{} comes twice, or after {MAX_FILES} other files", path.display());
            return Err(Fault::new(Reason::BadInput, message));
        }
        let mut upload = Upload::begin(user.clone(), path.clone(), query.mode, transfers.begin()?).await?;
        while let Some(data) = form.next_data().await? {
            upload.write(data).await?;
        }
        upload.commit().await?;
        written.push(path);
    }
    form.finish().await?;
    Ok(written.iter().map(|path| entry(path)).collect())
}

fn named(path: &str, user: &User) -> Outcome<PathBuf> {
    if path.is_empty() {
        return Err(Fault::new(Reason::BadPath, "the path is empty"));
    }
    paths::resolve(path, user)
}

fn entry(path: &Path) -> Value {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    json!({ "name": name, "path": path.to_string_lossy(), "type": "file" })
}

enum Order {
    Write(Bytes),
    Commit,
}

/// Dropped before it is committed, it changes nothing.
struct Upload {
    orders: mpsc::Sender<Order>,
    outcome: oneshot::Receiver<Outcome<()>>,
}

impl Upload {
    /// Returns once there is something to write to.
    async fn begin(user: User, path: PathBuf, mode: Option<u32>, permit: OwnedSemaphorePermit) -> Outcome<Self> {
        let (orders, mut ordered) = mpsc::channel(CHUNKS_BEHIND);
        let ((begun, has_begun), (end, outcome)) = (oneshot::channel(), oneshot::channel());
        spawn_as(user.clone(), move |ready| {
            let _permit = permit;
            match ready.and_then(|()| Draft::begin(&path)) {
                Ok(draft) => {
                    if begun.send(Ok(())).is_ok() {
                        // None: the client left. Who asked for the outcome may have, too.
                        let outcome = carry_out(draft, &mut ordered, mode, &user);
                        drop(outcome.map(|outcome| end.send(outcome)));
                    }
                }
                Err(fault) => drop(begun.send(Err(fault))),
            }
        })?;
        has_begun.await.unwrap_or_else(|_| Err(abandoned()))?;
        Ok(Self { orders, outcome })
    }

    async fn write(&mut self, data: Bytes) -> Outcome<()> {
        match self.orders.send(Order::Write(data)).await {
            Ok(()) => Ok(()),
            // The thread has ended: it says why.
            Err(_) => (&mut self.outcome).await.unwrap_or_else(|_| Err(abandoned())),
        }
    }

    async fn commit(self) -> Outcome<()> {
        // A thread that has ended has left its reason.
        let _ = self.orders.send(Order::Commit).await;
        self.outcome.await.unwrap_or_else(|_| Err(abandoned()))
    }
}

fn abandoned() -> Fault {
    Fault::new(Reason::Internal, "the file was abandoned")
}

fn carry_out(
    mut draft: Draft,
    orders: &mut mpsc::Receiver<Order>,
    mode: Option<u32>,
    user: &User,
) -> Option<Outcome<()>> {
    loop {
        match orders.blocking_recv()? {
            Order::Write(data) => {
                if let Err(fault) = draft.write(&data) {
                    return Some(Err(fault));
                }
            }
            Order::Commit => return Some(draft.commit(mode, user)),
        }
    }
}

//! `GET`, `HEAD` and `POST /files` as envd's clients know them: contents of files over plain HTTP. Bytes pass
//! through one at a time: at most a few chunks of a transfer are in memory, whatever the file's size.

mod access;
mod download;
mod multipart;
mod query;
mod range;
mod upload;

use crate::fault::{Fault, Outcome, Reason};
use crate::plain::refusal;
use crate::services::Agent;
use crate::users::{Accounts, User};
use access::Operation;
pub use access::is_equal;
use bytes::Bytes;
use download::FileBody;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use query::Query;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub const PATH: &str = "/files";
/// Transfers at a time: each has a thread.
const TRANSFERS: usize = 64;
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub type Body = Either<Full<Bytes>, FileBody>;

#[derive(Clone)]
pub struct Transfers(Arc<Semaphore>);

impl Default for Transfers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TRANSFERS)))
    }
}

impl Transfers {
    fn begin(&self) -> Outcome<OwnedSemaphorePermit> {
        let full = |_| Fault::new(Reason::TooManyTransfers, format!("{TRANSFERS} files are being transferred already"));
        self.0.clone().try_acquire_owned().map_err(full)
    }

    fn under_way(&self) -> usize {
        TRANSFERS - self.0.available_permits()
    }

    /// How many are left when there are none, or when the limit is over. It looks now and then: waiting in the
    /// semaphore's own line would refuse every transfer that comes meanwhile.
    pub async fn drain(&self, limit: Duration) -> usize {
        let end = Instant::now() + limit;
        while self.under_way() > 0 && Instant::now() < end {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.under_way()
    }
}

pub async fn answer(request: Request<Incoming>, agent: &Agent) -> Response<Body> {
    let answer = match request.method() {
        &Method::GET | &Method::HEAD => get(&request, agent).await,
        &Method::POST => post(request, agent).await.map(|response| response.map(Either::Left)),
        _ => {
            let mut response = Response::new(Either::Left(Full::default()));
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            Ok(response)
        }
    };
    answer.unwrap_or_else(|fault| refusal(&fault).map(Either::Left))
}

/// The checked query and the user it names; who is asked for by a header is not covered by signatures.
fn admitted<B>(request: &Request<B>, operation: Operation, agent: &Agent) -> Outcome<(Query, User)> {
    let query = Query::of(request.uri().query().unwrap_or_default())?;
    access::check(request.headers(), &query, operation, &agent.settings.secrets())?;
    let name =
        query.username.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| agent.settings.identity().default_user);
    let user = Accounts::read().find(if name.is_empty() { "root" } else { &name })?;
    Ok((query, user))
}

async fn get(request: &Request<Incoming>, agent: &Agent) -> Outcome<Response<Body>> {
    let (query, user) = admitted(request, Operation::Read, agent)?;
    let path = crate::paths::resolve(query.path.as_deref().unwrap_or_default(), &user)?;
    let download = download::open(&user, path, agent.transfers.begin()?).await?;
    download.answer(request)
}

async fn post(request: Request<Incoming>, agent: &Agent) -> Outcome<Response<Full<Bytes>>> {
    let admitted = admitted(&request, Operation::Write, agent);
    let (head, body) = request.into_parts();
    let mut body = Some(body);
    let received = match admitted {
        Ok((query, user)) => upload::receive(&head.headers, &mut body, query, user, &agent.transfers).await,
        Err(fault) => Err(fault),
    };
    let entries = received.inspect_err(|_| upload::let_finish(body))?;
    let mut response = Response::new(Full::from(serde_json::Value::from(entries).to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

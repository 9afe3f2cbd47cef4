//! The plain HTTP beside the rpcs: `GET /health`, and `POST /init` as envd's clients know it.

use crate::fault::{Fault, Outcome, Reason};
use crate::machine;
use crate::services::agent::{check_default_cwd, check_default_user, check_env, wall_clock};
use crate::settings::Settings;
use crate::transfer::{self, is_equal};
use buffa_types::google::protobuf::Timestamp;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use std::collections::BTreeMap;

const BODY_BYTES: usize = 1 << 20;
pub const TOKEN_HEADER: &str = "x-access-token";

/// Absent members leave what is set.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Init {
    env_vars: Option<BTreeMap<String, String>>,
    access_token: Option<String>,
    timestamp: Option<serde_json::Value>,
    default_user: Option<String>,
    default_workdir: Option<String>,
}

/// Once envd's /init has set a token, only who shows it is served; the host's Init and health stay open, and
/// /files looks for itself.
pub fn refuse<B>(request: &Request<B>, settings: &Settings) -> Option<Response<Full<Bytes>>> {
    let token = settings.access_token()?;
    let path = request.uri().path();
    let is_open = path == "/health"
        || path == transfer::PATH
        || path.starts_with("/wrenn.agent.v1.")
        || path.starts_with("/grpc.health.v1.");
    let is_shown = request.headers().get(TOKEN_HEADER).is_some_and(|t| is_equal(t.as_bytes(), token.as_bytes()));
    let why = "the X-Access-Token header does not hold the sandbox's token";
    (!is_open && !is_shown).then(|| refusal(&Fault::new(Reason::Unauthenticated, why)))
}

pub fn is_plain<B>(request: &Request<B>) -> bool {
    matches!(request.uri().path(), "/health" | "/init")
}

pub async fn answer(request: Request<Incoming>, settings: &Settings) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/health") => done(),
        (&Method::POST, "/init") => match Limited::new(request.into_body(), BODY_BYTES).collect().await {
            Ok(body) => init(&body.to_bytes(), settings).map_or_else(
                |fault| match fault.reason {
                    Reason::Internal => refusal(&fault),
                    _ => told(StatusCode::BAD_REQUEST, &fault),
                },
                |()| done(),
            ),
            Err(e) => told(StatusCode::BAD_REQUEST, &Fault::new(Reason::BadInput, e.to_string())),
        },
        _ => {
            let why = "this path does not know that method";
            told(StatusCode::METHOD_NOT_ALLOWED, &Fault::new(Reason::BadInput, why))
        }
    }
}

fn init(body: &[u8], settings: &Settings) -> Outcome<()> {
    let init: Init = match body {
        [] => Init::default(),
        json => serde_json::from_slice(json).map_err(|e| Fault::new(Reason::BadInput, e.to_string()))?,
    };
    let bad_time = |e| Fault::new(Reason::BadTime, format!("timestamp: {e}"));
    let time = init.timestamp.map(serde_json::from_value::<Timestamp>).transpose().map_err(bad_time)?;
    let time = time.map(|t| wall_clock(&t)).transpose()?;
    if let Some(env) = &init.env_vars {
        check_env(env)?;
    }
    check_default_user(init.default_user.as_deref().unwrap_or_default())?;
    check_default_cwd(init.default_workdir.as_deref().unwrap_or_default())?;
    if let Some(time) = time.filter(|_| settings.owns_machine) {
        machine::set_clock(time)?;
    }
    settings.update(|identity| {
        identity.env = init.env_vars.unwrap_or_else(|| std::mem::take(&mut identity.env));
        identity.default_user = init.default_user.unwrap_or_else(|| std::mem::take(&mut identity.default_user));
        identity.default_cwd = init.default_workdir.unwrap_or_else(|| std::mem::take(&mut identity.default_cwd));
    });
    if let Some(token) = init.access_token.filter(|t| !t.is_empty()) {
        settings.set_access_token(token);
    }
    Ok(())
}

fn done() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A refusal in JSON, with the status that envd's clients know for it.
pub fn refusal(fault: &Fault) -> Response<Full<Bytes>> {
    let status = match fault.reason {
        Reason::Unauthenticated | Reason::UnknownUser => StatusCode::UNAUTHORIZED,
        Reason::PathNotPermitted => StatusCode::FORBIDDEN,
        Reason::PathNotFound => StatusCode::NOT_FOUND,
        Reason::NoSpaceLeft => StatusCode::INSUFFICIENT_STORAGE,
        Reason::NoProcessLeft | Reason::TooManyTransfers => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    told(status, fault)
}

fn told(status: StatusCode, fault: &Fault) -> Response<Full<Bytes>> {
    let (reason, _) = fault.reason.wire();
    let json = serde_json::json!({ "code": status.as_u16(), "message": fault.message, "reason": reason });
    let mut response = Response::new(Full::from(json.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

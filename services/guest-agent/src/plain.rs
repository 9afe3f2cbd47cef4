//! The plain HTTP beside the rpcs: `GET /health`, and `POST /init` as envd's clients know it.

use crate::fault::{Fault, Outcome, Reason};
use crate::machine;
use crate::services::agent::{check_default_cwd, check_default_user, check_env, wall_clock};
use crate::settings::Settings;
use buffa_types::google::protobuf::Timestamp;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use std::collections::BTreeMap;

const BODY_BYTES: usize = 1 << 20;
const TOKEN_HEADER: &str = "x-access-token";

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

/// Once a token is set, only who shows it is served; the host's Init and health stay open.
pub fn refuse<B>(request: &Request<B>, settings: &Settings) -> Option<Response<Full<Bytes>>> {
    let token = settings.access_token()?;
    let path = request.uri().path();
    let is_open = path == "/health" || path.starts_with("/wrenn.agent.v1.") || path.starts_with("/grpc.health.v1.");
    let shown = request.headers().get(TOKEN_HEADER).map(http::HeaderValue::as_bytes);
    (!is_open && shown != Some(token.as_bytes()))
        .then(|| told(StatusCode::UNAUTHORIZED, "the X-Access-Token header does not hold the sandbox's token"))
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
                    Reason::Internal => told(StatusCode::INTERNAL_SERVER_ERROR, &fault.message),
                    _ => told(StatusCode::BAD_REQUEST, &fault.message),
                },
                |()| done(),
            ),
            Err(e) => told(StatusCode::BAD_REQUEST, &e.to_string()),
        },
        _ => told(StatusCode::METHOD_NOT_ALLOWED, "this path does not know that method"),
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

fn told(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let json = serde_json::json!({ "code": status.as_u16(), "message": message }).to_string();
    let mut response = Response::new(Full::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

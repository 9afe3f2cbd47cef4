//! The rpc handlers: check, call, map.
// Handlers name the one type they answer with; the generated traits would take any encodable one.
#![allow(refining_impl_trait)]

pub mod agent;
pub mod filesystem;
pub mod process;

use crate::connections::Connections;
use crate::files::watchers::Watchers;
use crate::ports::Ports;
use crate::process::table::Processes;
use crate::proto;
use crate::settings::Settings;
use crate::transfer::Transfers;
use connectrpc::{CompressionPolicy, ConnectRpcService, RequestContext, Router};
use connectrpc_reflection::Reflector;
use std::sync::Arc;
use std::time::Duration;

/// How long a stream is silent at most, unless the client asks for another interval.
const PING_EVERY: Duration = Duration::from_secs(90);

/// What the handlers work on.
pub struct Agent {
    pub settings: Settings,
    pub processes: Arc<Processes>,
    pub connections: Arc<Connections>,
    pub watchers: Watchers,
    pub ports: Arc<Ports>,
    pub transfers: Transfers,
}

/// Everything that is served by rpc, health and reflection included.
pub fn routes(agent: &Arc<Agent>) -> Result<ConnectRpcService, String> {
    let router = Router::new()
        .add_service(Arc::new(process::ProcessService(agent.clone())))
        .add_service(Arc::new(filesystem::FilesystemService(agent.clone())))
        .add_service(Arc::new(agent::AgentServiceHandler(agent.clone())));
    let names = [
        proto::process::PROCESS_SERVICE_NAME,
        proto::filesystem::FILESYSTEM_SERVICE_NAME,
        proto::wrenn::agent::v1::AGENT_SERVICE_SERVICE_NAME,
    ];
    let (router, _always_serving) = connectrpc_health::install_static(router, names);
    let reflector = Reflector::from_descriptor_set_bytes(proto::DESCRIPTORS).map_err(|e| e.to_string())?;
    let router = connectrpc_reflection::install(router, reflector);
    // The host is one hop away: compressing would cost more than it saves.
    Ok(ConnectRpcService::new(router).with_compression_policy(CompressionPolicy::disabled()))
}

/// A header that holds a number above 0.
fn number(ctx: &RequestContext, header: &str) -> Option<u64> {
    ctx.header(header)?.to_str().ok()?.parse().ok().filter(|&n| n > 0)
}

fn ping_interval(ctx: &RequestContext) -> Duration {
    number(ctx, "keepalive-ping-interval").map_or(PING_EVERY, Duration::from_secs)
}

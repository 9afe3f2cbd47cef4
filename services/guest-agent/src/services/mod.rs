//! The rpc handlers: check, call, map.
// Handlers name the one type they answer with; the generated traits would take any encodable one.
#![allow(refining_impl_trait)]

pub mod agent;
pub mod process;

use crate::process::table::Processes;
use crate::proto;
use crate::server::Connections;
use crate::settings::Settings;
use connectrpc::{CompressionPolicy, ConnectRpcService, Router};
use connectrpc_reflection::Reflector;
use std::sync::Arc;

/// What the handlers work on.
pub struct Agent {
    pub settings: Settings,
    pub processes: Arc<Processes>,
    pub connections: Arc<Connections>,
}

/// Everything that is served by rpc, health and reflection included.
pub fn routes(agent: &Arc<Agent>) -> Result<ConnectRpcService, String> {
    let router = Router::new()
        .add_service(Arc::new(process::ProcessService(agent.clone())))
        .add_service(Arc::new(agent::AgentServiceHandler(agent.clone())));
    let names = [proto::process::PROCESS_SERVICE_NAME, proto::wrenn::agent::v1::AGENT_SERVICE_SERVICE_NAME];
    let (router, _always_serving) = connectrpc_health::install_static(router, names);
    let reflector = Reflector::from_descriptor_set_bytes(proto::DESCRIPTORS).map_err(|e| e.to_string())?;
    let router = connectrpc_reflection::install(router, reflector);
    // The host is one hop away: compressing would cost more than it saves.
    Ok(ConnectRpcService::new(router).with_compression_policy(CompressionPolicy::disabled()))
}

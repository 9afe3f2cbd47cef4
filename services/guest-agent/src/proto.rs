//! Code generated from proto/ by build.rs.
#![allow(clippy::all, clippy::unwrap_used, clippy::expect_used, unexpected_cfgs)]
connectrpc::include_generated!();

/// Everything the agent serves, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent.fds.bin"));

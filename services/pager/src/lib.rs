//! What the pager, the shim and their tests share: the formats of docs/formats.md, the handshake, userfaultfd.

pub mod args;
pub mod chain;
pub mod descriptors;
pub mod dump;
pub mod format;
pub mod handshake;
pub mod regions;
pub mod serve;
pub mod traceparent;
pub mod uffd;

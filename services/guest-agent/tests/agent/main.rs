//! The agent as its clients see it: the real binary on loopback, spoken to in its protocols.
// A test that cannot go on fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ends;
mod filesystem;
mod hostile;
mod identity;
mod input;
mod limits;
mod output;
mod ports;
mod refusals;
mod replay;
mod support;
mod terminal;
mod transfer;
mod watching;
mod wire;

//! What the tests share. Each test file takes a part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod encode;
pub mod guest;
pub mod pager;
pub mod place;
pub mod process;
pub mod random;
pub mod snapshot;

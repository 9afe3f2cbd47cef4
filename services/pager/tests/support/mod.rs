//! What the tests share. Each test file takes a part of it.
#![allow(dead_code)]

pub mod encode;
pub mod random;

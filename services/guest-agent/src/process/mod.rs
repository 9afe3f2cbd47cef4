//! Processes of the guest: how they start, what they say, how they end.

pub mod children;
pub mod fanout;
pub mod freezer;
pub mod input;
pub mod launch;
pub mod log;
pub mod pty;
pub mod reader;
pub mod screen;
pub mod spawn;
pub mod status;
pub mod table;
pub mod utf8;

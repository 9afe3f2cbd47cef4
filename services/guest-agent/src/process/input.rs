//! The way into a process: its stdin pipe, its terminal, or none.

use super::children::ExitWatch;
use super::pty::Pty;
use crate::fault::{Fault, Outcome, Reason};
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::Mutex;

/// Where bytes of a request are meant to go.
pub enum Bytes {
    Stdin(Vec<u8>),
    Pty(Vec<u8>),
}

pub enum Input {
    /// Writers queue for the lock, so that their bytes never mix. `None`: closed, or /dev/null.
    Pipe(Mutex<Option<pipe::Sender>>),
    Pty(Arc<Pty>, Mutex<()>),
}

impl Input {
    /// Writes everything, however long the process takes to read it; gives up when it ends.
    pub async fn write(&self, bytes: &Bytes, exited: &ExitWatch) -> Outcome<()> {
        let mut exited = exited.clone();
        tokio::select! {
            done = self.write_all(bytes) => done,
            _ = exited.wait_for(Option::is_some) => Err(Fault::new(Reason::StdinClosed, "the process ended before it read the input")),
        }
    }

    async fn write_all(&self, bytes: &Bytes) -> Outcome<()> {
        let closed = |_| Fault::new(Reason::StdinClosed, "the process no longer reads its input");
        match (self, bytes) {
            (Self::Pipe(pipe), Bytes::Stdin(bytes)) => match pipe.lock().await.as_mut() {
                Some(pipe) => pipe.write_all(bytes).await.map_err(closed),
                None => Err(Fault::new(Reason::StdinClosed, "stdin is closed or was not asked for")),
            },
            (Self::Pty(pty, order), Bytes::Pty(bytes)) => {
                let _turn = order.lock().await;
                pty.write_all(bytes).await.map_err(closed)
            }
            (Self::Pipe(_), Bytes::Pty(_)) => {
                Err(Fault::new(Reason::NoPty, "the process has no terminal: send stdin instead"))
            }
            (Self::Pty(..), Bytes::Stdin(_)) => {
                Err(Fault::new(Reason::HasPty, "the process has a terminal: send pty instead"))
            }
        }
    }

    /// After the writes before it, so no byte is cut off.
    pub async fn close(&self, exited: &ExitWatch) -> Outcome<()> {
        let Self::Pipe(pipe) = self else {
            return Err(Fault::new(Reason::HasPty, "a terminal cannot be closed: send 0x04 instead"));
        };
        let mut exited = exited.clone();
        tokio::select! {
            mut pipe = pipe.lock() => drop(pipe.take()),
            _ = exited.wait_for(Option::is_some) => {}
        }
        Ok(())
    }
}

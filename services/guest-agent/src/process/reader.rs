//! Moves output from a pipe or terminal to the subscribers, until all of it is delivered.

use super::children::ExitWatch;
use super::fanout::{Channel, EVENT_BYTES, Fanout};
use super::pty::{Pty, pending};
use super::utf8;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// How long a pipe that a grandchild keeps open must be silent after the child's exit.
const SILENCE: Duration = Duration::from_millis(200);
/// How long the rest of a character may take to follow its beginning.
const CHARACTER: Duration = Duration::from_millis(10);
/// How long such a grandchild can delay the end by not being silent.
const PATIENCE: Duration = Duration::from_secs(2);

pub enum Source {
    Pipe(pipe::Receiver, Channel),
    Pty(Arc<Pty>),
}

impl Source {
    fn channel(&self) -> Channel {
        match self {
            Self::Pipe(_, channel) => *channel,
            Self::Pty(_) => Channel::Pty,
        }
    }

    /// How much to read at once, so that what `complete` adds is within an event.
    fn room(&self) -> usize {
        match self {
            Self::Pipe(..) => EVENT_BYTES,
            Self::Pty(_) => EVENT_BYTES - utf8::MOST_MISSING,
        }
    }

    async fn read(&mut self, buf: &mut [u8]) -> usize {
        let result = match self {
            Self::Pipe(pipe, _) => pipe.read(buf).await,
            Self::Pty(pty) => pty.read(buf).await,
        };
        // No error of a pipe or terminal can be read past.
        result.unwrap_or(0)
    }

    /// Adds to the `n` bytes that were read the rest of a character that they end within, if that follows at once.
    async fn complete(&mut self, buf: &mut [u8], mut n: usize) -> usize {
        let Self::Pty(pty) = self else { return n };
        loop {
            let missing = utf8::missing(&buf[..n]);
            // What is no text may begin one character behind the other, beyond the end of the buffer.
            let Some(rest) = buf.get_mut(n..n + missing).filter(|rest| !rest.is_empty()) else { return n };
            match tokio::time::timeout(CHARACTER, pty.read(rest)).await {
                Ok(Ok(more @ 1..)) => n += more,
                _ => return n,
            }
        }
    }

    fn pending(&self) -> usize {
        match self {
            Self::Pipe(pipe, _) => pending(pipe.as_raw_fd()),
            Self::Pty(pty) => pty.pending(),
        }
    }
}

/// Returns once everything the child wrote is delivered. What is in the pipe at its exit is the child's;
/// what comes later is a grandchild's, and waited for only within SILENCE and PATIENCE.
pub async fn pump(mut source: Source, fanout: Arc<Fanout>, mut exited: ExitWatch) {
    let mut buf = vec![0; EVENT_BYTES];
    let (channel, room) = (source.channel(), source.room());
    loop {
        let n = tokio::select! {
            biased;
            n = source.read(&mut buf[..room]) => n,
            _ = exited.wait_for(Option::is_some) => break,
        };
        if n == 0 {
            return;
        }
        // Not within the race above: a read that loses it must not have taken anything.
        let n = source.complete(&mut buf, n).await;
        fanout.publish(channel, &buf[..n]).await;
    }
    let mut owed = source.pending();
    let mut patience_ends = Instant::now() + PATIENCE;
    while let Ok(n) = tokio::time::timeout(SILENCE, source.read(&mut buf[..room])).await {
        if n == 0 {
            return;
        }
        let n = source.complete(&mut buf, n).await;
        fanout.publish(channel, &buf[..n]).await;
        if owed > 0 {
            owed = owed.saturating_sub(n);
            patience_ends = Instant::now() + PATIENCE;
        } else if Instant::now() >= patience_ends {
            break;
        }
    }
    // The grandchild goes on; it must not die of a closed pipe. A terminal does hang up.
    if let Source::Pipe(..) = source {
        tokio::spawn(async move { while source.read(&mut buf).await > 0 {} });
    }
}

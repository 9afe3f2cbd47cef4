//! One process's events to its subscribers. The slowest connected one sets the pace: 256 events and 1 MiB
//! wait for it, then the producer does (so the process, in the end). One that is dropped, as its connection
//! or stream ends, is forgotten at once. Joining and publishing take one lock: no gap, no duplicate.

use super::children::Exit;
use super::log::{Gone, Log};
use super::pty::Size;
use super::screen::Screen;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

pub const BUFFER_EVENTS: usize = 256;
/// The most bytes in one event.
pub const EVENT_BYTES: usize = 32 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Stdout,
    Stderr,
    Pty,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Data(Channel, Vec<u8>),
    End(Exit),
}

/// What a terminal shows once all up to that sequence number was written to it.
pub struct Picture {
    pub sequence: u64,
    pub size: Size,
    pub contents: Vec<u8>,
}

#[derive(Default)]
struct Kept {
    log: Log,
    /// Of a process with a terminal.
    screen: Option<Screen>,
}

#[derive(Default)]
pub struct Fanout {
    kept: Mutex<Kept>,
    published: Notify,
    read: Notify,
}

impl Fanout {
    pub fn of_terminal(size: Size) -> Self {
        Self { kept: Mutex::new(Kept { screen: Some(Screen::new(size)), ..Kept::default() }), ..Self::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_terminal(&self) -> bool {
        self.kept().screen.is_some()
    }

    /// Sees what comes after that sequence number, or from now on.
    pub fn subscribe(self: &Arc<Self>, after: Option<u64>) -> Result<Subscription, Gone> {
        let reader = self.kept().log.join(after)?;
        Ok(Subscription { fanout: self.clone(), reader })
    }

    /// Sees what is shown now, and what comes from now on. None: there is no terminal.
    pub fn view(self: &Arc<Self>) -> Option<(Picture, Subscription)> {
        let mut kept = self.kept();
        let Kept { log, screen: Some(screen) } = &mut *kept else { return None };
        let reader = log.join(None).ok()?;
        let picture = Picture { sequence: log.last(), size: screen.size(), contents: screen.painted() };
        Some((picture, Subscription { fanout: self.clone(), reader }))
    }

    pub fn resize(&self, size: Size) {
        if let Some(screen) = &mut self.kept().screen {
            screen.resize(size);
        }
    }

    /// Returns once there was room for it.
    pub async fn publish(&self, channel: Channel, bytes: &[u8]) {
        loop {
            // Made before the look, so that no change in between goes unnoticed.
            let read = self.read.notified();
            if self.push(channel, bytes) {
                break;
            }
            read.await;
        }
        self.published.notify_waiters();
    }

    fn push(&self, channel: Channel, bytes: &[u8]) -> bool {
        let mut kept = self.kept();
        let has_room = kept.log.push(channel, bytes);
        if let (true, Some(screen)) = (has_room, &mut kept.screen) {
            screen.write(bytes);
        }
        has_room
    }

    /// The last event.
    pub fn finish(&self, exit: Exit) {
        self.kept().log.finish(exit);
        self.published.notify_waiters();
    }

    pub fn kept_bytes(&self) -> usize {
        let kept = self.kept();
        kept.log.kept_bytes() + kept.screen.as_ref().map_or(0, Screen::kept_bytes)
    }
}

pub struct Subscription {
    fanout: Arc<Fanout>,
    reader: u64,
}

impl Subscription {
    /// The next event and its number; to be asked no more after the end. Loses nothing when it is cancelled.
    pub async fn recv(&mut self) -> (u64, Event) {
        loop {
            let published = self.fanout.published.notified();
            let taken = self.fanout.kept().log.take(self.reader);
            if let Some(event) = taken {
                self.fanout.read.notify_waiters();
                return event;
            }
            published.await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.fanout.kept().log.leave(self.reader);
        self.fanout.read.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    fn joined(fanout: &Arc<Fanout>) -> Subscription {
        fanout.subscribe(None).unwrap_or_else(|gone| panic!("{gone:?}"))
    }

    #[tokio::test]
    async fn buffers_256_events_then_makes_the_producer_wait_and_loses_none() {
        let fanout = Arc::new(Fanout::default());
        let mut slow = joined(&fanout);
        for n in 0..BUFFER_EVENTS {
            let text = n.to_string();
            let published = timeout(Duration::from_secs(1), fanout.publish(Channel::Stdout, text.as_bytes()));
            assert!(published.await.is_ok(), "event {n} waited");
        }
        let producer = tokio::spawn({
            let fanout = fanout.clone();
            async move {
                fanout.publish(Channel::Stdout, b"256").await;
                fanout.finish(Exit::Code(0));
            }
        });
        assert!(timeout(Duration::from_millis(50), fanout.publish(Channel::Stderr, b"x")).await.is_err());
        assert!(!producer.is_finished());
        for n in 0..=BUFFER_EVENTS {
            let want = Event::Data(Channel::Stdout, n.to_string().into_bytes());
            assert_eq!(slow.recv().await, (n as u64 + 1, want));
        }
        assert_eq!(slow.recv().await, (258, Event::End(Exit::Code(0))));
    }

    #[tokio::test]
    async fn a_subscriber_that_left_frees_the_producer_that_waited_for_it() {
        let fanout = Arc::new(Fanout::default());
        let (dead, mut alive) = (joined(&fanout), joined(&fanout));
        for _ in 0..BUFFER_EVENTS {
            fanout.publish(Channel::Stdout, b"x").await;
            alive.recv().await;
        }
        assert!(timeout(Duration::from_millis(50), fanout.publish(Channel::Stdout, b"x")).await.is_err());
        let waiting = tokio::spawn({
            let fanout = fanout.clone();
            async move { fanout.publish(Channel::Stdout, b"last").await }
        });
        tokio::task::yield_now().await;
        drop(dead);
        assert!(timeout(Duration::from_secs(5), waiting).await.is_ok());
        assert_eq!(alive.recv().await.1, Event::Data(Channel::Stdout, b"last".to_vec()));
    }
}

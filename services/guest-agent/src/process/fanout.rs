//! One process's events to its subscribers. Each has one buffer of 256 events; a full one makes the
//! producer wait (so the process, in the end), a dropped one is forgotten. Nothing is ever lost.

use super::children::Exit;
use bytes::Bytes;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

pub const BUFFER_EVENTS: usize = 256;
/// The most bytes in one event.
pub const EVENT_BYTES: usize = 32 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Stdout,
    Stderr,
    Pty,
}

#[derive(Debug, Clone)]
pub enum Event {
    Data(Channel, Bytes),
    End(Exit),
}

pub type Subscription = mpsc::Receiver<Event>;

/// `None` once the end has been handed out.
pub struct Fanout(Mutex<Option<Vec<mpsc::Sender<Event>>>>);

impl Fanout {
    /// With its first subscriber, who therefore sees everything.
    pub fn new() -> (Self, Subscription) {
        let (sender, subscription) = mpsc::channel(BUFFER_EVENTS);
        (Self(Mutex::new(Some(vec![sender]))), subscription)
    }

    fn senders(&self) -> MutexGuard<'_, Option<Vec<mpsc::Sender<Event>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins from now on; `None` if the process has ended.
    pub fn subscribe(&self) -> Option<Subscription> {
        let (sender, subscription) = mpsc::channel(BUFFER_EVENTS);
        self.senders().as_mut()?.push(sender);
        Some(subscription)
    }

    /// Delivers to all, waiting for room at each.
    pub async fn publish(&self, event: Event) {
        let senders = self.senders().clone().unwrap_or_default();
        let mut left = false;
        for sender in &senders {
            left |= sender.send(event.clone()).await.is_err();
        }
        if left && let Some(senders) = self.senders().as_mut() {
            senders.retain(|s| !s.is_closed());
        }
    }

    /// Delivers the last event; nobody can join any more.
    pub async fn finish(&self, exit: Exit) {
        let senders = self.senders().take().unwrap_or_default();
        // All at once, lest one that does not read keeps the end from the others. Who has left needs none.
        futures::future::join_all(senders.iter().map(|s| s.send(Event::End(exit)))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::time::timeout;

    fn data(n: usize) -> Event {
        Event::Data(Channel::Stdout, Bytes::from(n.to_string()))
    }

    #[tokio::test]
    async fn buffers_256_events_then_makes_the_producer_wait_and_loses_none() {
        let (fanout, mut slow) = Fanout::new();
        let fanout = Arc::new(fanout);
        for n in 0..BUFFER_EVENTS {
            assert!(timeout(Duration::from_secs(1), fanout.publish(data(n))).await.is_ok(), "event {n} waited");
        }
        let producer = tokio::spawn({
            let fanout = fanout.clone();
            async move {
                fanout.publish(data(256)).await;
                fanout.finish(Exit::Code(0)).await;
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!producer.is_finished());
        for n in 0..=BUFFER_EVENTS {
            match slow.recv().await {
                Some(Event::Data(_, bytes)) => assert_eq!(bytes, n.to_string()),
                other => panic!("event {n} is {other:?}"),
            }
        }
        assert!(matches!(slow.recv().await, Some(Event::End(Exit::Code(0)))));
        assert!(slow.recv().await.is_none());
        assert!(fanout.subscribe().is_none());
    }

    #[tokio::test]
    async fn forgets_a_subscriber_that_left() {
        let (fanout, first) = Fanout::new();
        let mut second = fanout.subscribe();
        drop(first);
        for n in 0..10 {
            fanout.publish(data(n)).await;
        }
        assert_eq!(fanout.senders().as_ref().map(Vec::len), Some(1));
        assert!(second.as_mut().and_then(|s| s.try_recv().ok()).is_some());
    }
}

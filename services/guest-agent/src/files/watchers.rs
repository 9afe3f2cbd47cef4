//! Watches that keep their events until somebody asks for them.

use super::watch::{Notice, Options, Watch};
use crate::fault::{Fault, Outcome, Reason};
use crate::proto::filesystem::FilesystemEvent;
use crate::users::User;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MAX_WATCHERS: usize = 256;
const MAX_EVENTS: usize = 10_000;

#[derive(Default)]
struct Kept {
    events: Vec<FilesystemEvent>,
    has_lost: bool,
}

impl Kept {
    fn take_in(&mut self, notice: Notice) {
        match notice {
            Notice::Event(event) if self.events.len() < MAX_EVENTS => self.events.push(*event),
            Notice::Event(_) | Notice::Lost => self.has_lost = true,
        }
    }

    /// A loss is told once, before the events that were kept.
    fn hand_out(&mut self) -> Outcome<Vec<FilesystemEvent>> {
        if std::mem::take(&mut self.has_lost) {
            return Err(Fault::new(Reason::WatchOverflow, "more events happened than were fetched: some are lost"));
        }
        Ok(std::mem::take(&mut self.events))
    }
}

struct Watcher {
    kept: Arc<Mutex<Kept>>,
    _watch: Watch,
}

#[derive(Default)]
pub struct Watchers {
    live: Mutex<(u64, HashMap<String, Watcher>)>,
}

impl Watchers {
    fn live(&self) -> MutexGuard<'_, (u64, HashMap<String, Watcher>)> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn create(&self, user: &User, root: PathBuf, options: Options) -> Outcome<String> {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let into = kept.clone();
        let watch = Watch::start(user, root, options, move |notice| {
            into.lock().unwrap_or_else(PoisonError::into_inner).take_in(notice);
            true
        })
        .await?;
        let mut live = self.live();
        if live.1.len() >= MAX_WATCHERS {
            return Err(Fault::new(Reason::TooManyWatchers, format!("there are {MAX_WATCHERS} watchers already")));
        }
        live.0 += 1;
        let id = format!("watcher-{}", live.0);
        live.1.insert(id.clone(), Watcher { kept, _watch: watch });
        Ok(id)
    }

    pub fn events(&self, id: &str) -> Outcome<Vec<FilesystemEvent>> {
        let live = self.live();
        let watcher = live.1.get(id).ok_or_else(|| unknown(id))?;
        watcher.kept.lock().unwrap_or_else(PoisonError::into_inner).hand_out()
    }

    pub fn remove(&self, id: &str) -> Outcome<()> {
        self.live().1.remove(id).map(drop).ok_or_else(|| unknown(id))
    }
}

fn unknown(id: &str) -> Fault {
    Fault::new(Reason::WatcherNotFound, format!("there is no watcher {id:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_loss_once_and_then_gives_the_events_that_it_kept() {
        let mut kept = Kept::default();
        for _ in 0..=MAX_EVENTS {
            kept.take_in(Notice::Event(Box::default()));
        }
        assert_eq!(kept.hand_out().err().map(|f| f.reason), Some(Reason::WatchOverflow));
        assert_eq!(kept.hand_out().map(|e| e.len()).ok(), Some(MAX_EVENTS));
        assert_eq!(kept.hand_out().map(|e| e.len()).ok(), Some(0));
    }
}

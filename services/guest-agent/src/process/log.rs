//! The numbered output of one process: at most 1 MiB and 16,384 events of it are kept, whole events only.
//! An event that a reader has still to read is never dropped: `push` refuses instead.

use super::children::Exit;
use super::fanout::{BUFFER_EVENTS, Channel, Event};
use std::collections::{HashMap, VecDeque};

/// Of output kept for replay and for slow readers together.
const KEPT_BYTES: usize = 1 << 20;
/// What tiny events may cost beside their bytes.
const KEPT_EVENTS: usize = 16_384;

/// Where one event's bytes are in all that the process ever wrote.
struct Record {
    starts_at: u64,
    len: usize,
    channel: Channel,
}

/// What a reader asked for is not kept, or never was.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone {
    /// The first sequence number that can still be had.
    pub oldest: u64,
}

#[derive(Default)]
pub struct Log {
    bytes: VecDeque<u8>,
    records: VecDeque<Record>,
    /// Events dropped since the start: the first record has the number after it.
    dropped: u64,
    written: u64,
    end: Option<Exit>,
    /// The next sequence number of each reader.
    readers: HashMap<u64, u64>,
    last_reader: u64,
}

impl Log {
    fn oldest(&self) -> u64 {
        self.dropped + 1
    }

    /// The number of the event to come; once the process has ended, one behind the last output.
    fn next(&self) -> u64 {
        self.dropped + self.records.len() as u64 + 1
    }

    /// The number of the last output, 0 for none.
    pub fn last(&self) -> u64 {
        self.next() - 1
    }

    fn record(&self, sequence: u64) -> Option<&Record> {
        self.records.get(usize::try_from(sequence.checked_sub(self.oldest())?).ok()?)
    }

    pub fn kept_bytes(&self) -> usize {
        self.bytes.len() + self.records.len() * size_of::<Record>()
    }

    /// A reader of all that comes after `after`, or of what comes from now on; the end comes in any case.
    pub fn join(&mut self, after: Option<u64>) -> Result<u64, Gone> {
        let next = self.next();
        let from = match after {
            None => next,
            Some(after) => after.saturating_add(1),
        };
        // Who has seen the end may see it again.
        let from = if self.end.is_some() && from == next + 1 { next } else { from };
        if !(self.oldest()..=next).contains(&from) {
            return Err(Gone { oldest: self.oldest() });
        }
        self.last_reader += 1;
        self.readers.insert(self.last_reader, from);
        Ok(self.last_reader)
    }

    pub fn leave(&mut self, reader: u64) {
        self.readers.remove(&reader);
    }

    /// Each reader may have 256 events and 1 MiB to read, but always one.
    fn has_room(&self, len: usize) -> bool {
        self.readers.values().all(|&from| match self.record(from) {
            None => true,
            Some(record) => {
                let bytes = usize::try_from(self.written - record.starts_at).unwrap_or(usize::MAX);
                self.next() - from < BUFFER_EVENTS as u64 && bytes.saturating_add(len) <= KEPT_BYTES
            }
        })
    }

    /// False: a reader must read first.
    pub fn push(&mut self, channel: Channel, bytes: &[u8]) -> bool {
        if !self.has_room(bytes.len()) {
            return false;
        }
        while self.records.len() == KEPT_EVENTS || self.bytes.len() + bytes.len() > KEPT_BYTES {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes.drain(..oldest.len);
            self.dropped += 1;
        }
        self.records.push_back(Record { starts_at: self.written, len: bytes.len(), channel });
        self.bytes.extend(bytes);
        self.written += bytes.len() as u64;
        true
    }

    pub fn finish(&mut self, exit: Exit) {
        self.end = Some(exit);
        // Nothing is added any more: what was kept in advance goes back.
        self.bytes.shrink_to_fit();
        self.records.shrink_to_fit();
    }

    fn copy(&self, from: usize, len: usize) -> Vec<u8> {
        let (head, tail) = self.bytes.as_slices();
        let in_head = &head[from.min(head.len())..(from + len).min(head.len())];
        let in_tail = &tail[from.saturating_sub(head.len())..(from + len).saturating_sub(head.len())];
        [in_head, in_tail].concat()
    }

    /// The reader's next event, if it is there.
    pub fn take(&mut self, reader: u64) -> Option<(u64, Event)> {
        let sequence = *self.readers.get(&reader)?;
        let event = match self.record(sequence) {
            Some(record) => {
                let first = self.records.front().map_or(0, |r| r.starts_at);
                let from = usize::try_from(record.starts_at - first).ok()?;
                Event::Data(record.channel, self.copy(from, record.len))
            }
            None if sequence == self.next() => Event::End(self.end?),
            None => return None,
        };
        self.readers.insert(reader, sequence + 1);
        Some((sequence, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(events: usize, len: usize) -> Log {
        let mut log = Log::default();
        for n in 0..events {
            assert!(log.push(Channel::Stdout, &vec![n as u8; len]));
        }
        log
    }

    fn sequences(log: &mut Log, reader: u64) -> Vec<u64> {
        std::iter::from_fn(|| log.take(reader).map(|(sequence, _)| sequence)).collect()
    }

    #[test]
    fn replays_from_any_kept_number_and_goes_on_without_gap_or_duplicate() {
        let mut log = filled(5, 10);
        for (after, want) in [(None, vec![6, 7]), (Some(0), vec![1, 2, 3, 4, 5, 6, 7]), (Some(4), vec![5, 6, 7])] {
            let mut log = filled(5, 10);
            let reader = log.join(after).unwrap_or_default();
            assert!(log.push(Channel::Stderr, b"live"));
            log.finish(Exit::Code(0));
            assert_eq!(sequences(&mut log, reader), want, "{after:?}");
        }
        assert_eq!(log.join(Some(6)), Err(Gone { oldest: 1 }), "a number that is yet to come");
        log.finish(Exit::Code(3));
        let (seen, again) = (log.join(Some(6)).unwrap_or_default(), log.join(None).unwrap_or_default());
        for reader in [seen, again] {
            assert!(matches!(log.take(reader), Some((6, Event::End(Exit::Code(3))))));
            assert!(log.take(reader).is_none());
        }
    }

    #[test]
    fn keeps_the_last_mebibyte_in_whole_events_with_their_bytes() {
        let len = 32 * 1024;
        let mut log = filled(100, len);
        assert_eq!(log.join(Some(67)), Err(Gone { oldest: 69 }));
        let reader = log.join(Some(68)).unwrap_or_default();
        for sequence in 69..=100u64 {
            match log.take(reader) {
                Some((n, Event::Data(Channel::Stdout, bytes))) => {
                    assert_eq!((n, bytes), (sequence, vec![(sequence - 1) as u8; len]));
                }
                other => panic!("{sequence} is {other:?}"),
            }
        }
    }

    #[test]
    fn bounds_the_number_of_tiny_events_too() {
        let mut log = filled(KEPT_EVENTS + 10, 1);
        assert_eq!(log.join(Some(9)), Err(Gone { oldest: 11 }));
        assert!(log.join(Some(10)).is_ok());
        assert!(log.kept_bytes() < 1 << 20, "{}", log.kept_bytes());
    }

    #[test]
    fn refuses_more_while_a_reader_is_256_events_or_a_mebibyte_behind() {
        for (len, room) in [(1, BUFFER_EVENTS), (32 * 1024, 32)] {
            let mut log = Log::default();
            let slow = log.join(None).unwrap_or_default();
            let _quick = log.join(None);
            for n in 0..room {
                assert!(log.push(Channel::Pty, &vec![0; len]), "{n} of {len} bytes");
                assert!(log.take(2).is_some());
            }
            assert!(!log.push(Channel::Pty, &vec![0; len]));
            assert!(matches!(log.take(slow), Some((1, _))));
            assert!(log.push(Channel::Pty, &vec![0; len]));
            assert!(!log.push(Channel::Pty, &vec![0; len]));
            log.leave(slow);
            assert!(log.push(Channel::Pty, &vec![0; len]));
            assert_eq!(log.readers.len(), 1);
        }
    }
}

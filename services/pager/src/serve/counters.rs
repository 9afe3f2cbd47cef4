//! What vm-runtime may ask for at any time.

use serde::Serialize;
use std::time::Duration;

const SLOTS: usize = 24;

#[derive(Default, Serialize)]
pub struct Counters {
    pub faults: u64,
    pub prefetched_pages: u64,
    pub copied_bytes: u64,
    pub resident_pages: u64,
    /// Faults that took under 2^i microseconds and not under 2^(i-1); the last slot has all that took longer.
    pub service_us: [u64; SLOTS],
}

impl Counters {
    pub fn served(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.faults += 1;
        self.service_us[((u64::BITS - us.leading_zeros()) as usize).min(SLOTS - 1)] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_counts_in_the_slot_of_its_power_of_two() {
        let mut counters = Counters::default();
        for us in [0, 1, 2, 3, 4, 1 << 22, u64::MAX / 1000] {
            counters.served(Duration::from_micros(us));
        }
        assert_eq!(counters.faults, 7);
        assert_eq!(counters.service_us[..4], [1, 1, 2, 1]);
        assert_eq!(counters.service_us[SLOTS - 1], 2);
    }
}

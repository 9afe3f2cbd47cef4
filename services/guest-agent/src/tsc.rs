//! The rate of this machine's time-stamp counter: a guest under emulation cannot always measure its own.

use nix::time::{ClockId, clock_gettime};
use std::arch::x86_64::_rdtsc;
use std::time::Duration;

const SPAN: Duration = Duration::from_millis(200);

/// kHz, measured over 200 ms against the clock that nothing adjusts.
pub fn khz() -> u64 {
    let (tsc_0, ns_0) = reading();
    std::thread::sleep(SPAN);
    let (tsc_1, ns_1) = reading();
    let ticks = u128::from(tsc_1.wrapping_sub(tsc_0));
    u64::try_from(ticks * 1_000_000 / u128::from((ns_1 - ns_0).max(1))).unwrap_or(0)
}

/// Both counters at one moment: of several tries the one that was interrupted least.
fn reading() -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..16 {
        let before = now_ns();
        // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
        let tsc = unsafe { _rdtsc() };
        let took = now_ns() - before;
        if took < best.0 {
            best = (took, tsc, before + took / 2);
        }
    }
    (best.1, best.2)
}

fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_RAW).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn measures_a_rate_that_a_processor_can_have() {
        let khz = super::khz();
        assert!((100_000..20_000_000).contains(&khz), "{khz} kHz");
    }
}

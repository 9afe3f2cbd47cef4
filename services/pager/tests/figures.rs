//! Figures for README.md: `cargo build --release --examples && cargo test --release --test figures -- --ignored --nocapture`
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::fs;
use support::encode;
use support::guest::Guest;
use support::pager::{Options, Pager};
use support::snapshot::Snapshot;

/// 256 MiB.
const BLOCKS: usize = 65_536;
const RUNS: usize = 9;

/// Under how many microseconds half of the faults were served.
fn half(stats: &Value) -> u64 {
    let counts: Vec<u64> =
        stats["service_us"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect();
    let (total, mut sum) = (counts.iter().sum::<u64>(), 0);
    for (index, count) in counts.iter().enumerate() {
        sum += count;
        if 2 * sum >= total {
            return 1 << index;
        }
    }
    0
}

/// The best of some runs: what else the machine does only makes them longer.
fn best(of: impl Fn() -> f64) -> f64 {
    (0..RUNS).map(|_| of()).fold(f64::MAX, f64::min)
}

fn touched(snapshot: &Snapshot, order: &str, touches: usize) {
    let us = best(|| {
        let pager = Pager::serving(snapshot, Options::default());
        let mut guest = Guest::lazy(snapshot, &pager.socket);
        pager.prefetched();
        let ns: f64 = guest.ask(&format!("time {order} {touches}")).parse().unwrap();
        let (faults, served) = (pager.faults(), half(&pager.stats()));
        print!("[{faults} faults, half served in under {served} us] ");
        ns * touches as f64 / 1000.0 / faults as f64
    });
    println!("\nlazy, {order}: {us:.1} us a fault, which brings 16 pages");
}

/// Microseconds of a processor that it had.
fn processor_us(pager: &Pager) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/schedstat", pager.process.child.id())).unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1000.0
}

/// Processor time, which a busy machine changes less.
fn prefetched(snapshot: &Snapshot, how: &str, options: impl Fn() -> Options) {
    let us = best(|| {
        let pager = Pager::serving(snapshot, options());
        let before = processor_us(&pager);
        let _guest = Guest::lazy(snapshot, &pager.socket);
        let pages = pager.prefetched();
        (processor_us(&pager) - before) / pages as f64
    });
    println!("prefetched, {how}: {us:.2} us a page");
}

fn mapped(snapshot: &Snapshot, order: &str) {
    let us = best(|| Guest::mapped(snapshot).ask(&format!("time {order} 3000")).parse::<f64>().unwrap() / 1000.0);
    println!("mapped, {order}: {us:.2} us a touched page");
}

#[test]
#[ignore = "measures"]
fn measure() {
    let snapshot = Snapshot::full(70, BLOCKS);
    touched(&snapshot, "sequential", 30_000);
    touched(&snapshot, "random", 3_000);
    let set = |step: usize| Options {
        working_set: Some(encode::working_set(
            &(0..20_000 / step).map(|index| (index * step) as u32).collect::<Vec<_>>(),
        )),
        ..Options::default()
    };
    prefetched(&snapshot, "neighbours", || set(1));
    prefetched(&snapshot, "every third", || set(3));
    prefetched(&snapshot, "eagerly", || Options { is_eager: true, ..Options::default() });
    mapped(&snapshot, "sequential");
    mapped(&snapshot, "random");
}

//! One line of JSON on stdout for each thing that happens. Whoever read it may be gone; the VM goes on. Each names the
//! trace that it belongs to, where TRACEPARENT did.

use super::counters::Counters;
use crate::traceparent;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::Duration;

static TRACE: LazyLock<Option<String>> =
    LazyLock::new(|| traceparent::trace_id(&std::env::var("TRACEPARENT").ok()?).map(str::to_owned));

pub fn listening() {
    line(&json!({ "event": "listening" }));
}

pub fn prefetched(pages: u64, took: Duration) {
    line(&json!({ "event": "prefetched", "pages": pages, "us": took.as_micros() as u64 }));
}

pub fn fatal(reason: &str, message: &str) {
    line(&json!({ "event": "fatal", "reason": reason, "message": message }));
}

/// What it did in all.
pub fn ended(counters: &Counters) {
    let Counters { faults, prefetched_pages, copied_bytes, resident_pages, .. } = counters;
    line(&json!({
        "event": "ended",
        "faults": faults,
        "prefetched_pages": prefetched_pages,
        "copied_bytes": copied_bytes,
        "resident_pages": resident_pages,
    }));
}

pub fn dumped(pages: u64) {
    line(&json!({ "pages": pages }));
}

fn line(value: &Value) {
    let mut value = value.clone();
    if let Some(trace) = TRACE.as_deref() {
        value["trace"] = trace.into();
    }
    // One write, so that no reader sees a part of a line.
    if let Err(error) = io::stdout().write_all(format!("{value}\n").as_bytes()) {
        eprintln!("wrenn-pager: nobody hears {value}: {error}");
    }
}

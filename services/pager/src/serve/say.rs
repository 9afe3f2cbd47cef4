//! One line of JSON on stdout for each thing that happens. Whoever read it may be gone; the VM goes on.

use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;

pub fn listening() {
    line(&json!({ "event": "listening" }));
}

pub fn prefetched(pages: u64, took: Duration) {
    line(&json!({ "event": "prefetched", "pages": pages, "us": took.as_micros() as u64 }));
}

pub fn fatal(reason: &str, message: &str) {
    line(&json!({ "event": "fatal", "reason": reason, "message": message }));
}

pub fn dumped(pages: u64) {
    line(&json!({ "pages": pages }));
}

fn line(value: &Value) {
    // One write, so that no reader sees a part of a line.
    if let Err(error) = io::stdout().write_all(format!("{value}\n").as_bytes()) {
        eprintln!("wrenn-pager: nobody hears {value}: {error}");
    }
}

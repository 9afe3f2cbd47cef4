//! Tells a caller that records a trace where the time of its call went in here: a `Server-Timing` header (W3C), its
//! steps in order. The host takes it for what it is, a guest's word.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const SAMPLED: u8 = 1;

/// Of one request; its handler finds it among the request's extensions.
#[derive(Clone)]
pub struct Timing {
    begun: Instant,
    steps: Arc<Mutex<Vec<(&'static str, Duration)>>>,
}

impl Timing {
    /// For a request whose `traceparent` says that it is recorded.
    pub fn wanted(headers: &HeaderMap) -> Option<Self> {
        let sent = headers.get("traceparent")?.to_str().ok()?;
        is_sampled(sent).then(|| Self { begun: Instant::now(), steps: Arc::default() })
    }

    pub fn add(&self, step: &'static str, begun: Instant) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push((step, begun.elapsed()));
    }

    pub fn header(&self) -> HeaderValue {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = String::with_capacity(32 * (1 + steps.len()));
        tell(&mut told, "handler", self.begun.elapsed());
        for (step, took) in steps.iter() {
            told.push_str(", ");
            tell(&mut told, step, *took);
        }
        HeaderValue::try_from(told).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// In ms. By integers: an emulated processor takes its time for anything else.
fn tell(told: &mut String, name: &str, took: Duration) {
    let micros = took.as_micros();
    // Writing to a string cannot fail.
    let _ = write!(told, "{name};dur={}.{:03}", micros / 1000, micros % 1000);
}

/// `00-<32 hex>-<16 hex>-<flags>` with the first flag set.
fn is_sampled(traceparent: &str) -> bool {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next(), parts.next(), parts.next(), parts.next());
    let has = |part: Option<&str>, length: usize| {
        part.is_some_and(|text| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let is_whole = version == Some("00") && has(trace, 32) && has(span, 16) && has(flags, 2) && parts.next().is_none();
    is_whole && flags.and_then(|text| u8::from_str_radix(text, 16).ok()).is_some_and(|byte| byte & SAMPLED != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_recorded_call_is_timed() {
        let ids = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        assert!(is_sampled(&format!("00-{ids}-01")) && is_sampled(&format!("00-{ids}-03")));
        for bad in ["", "00", &format!("00-{ids}-00"), &format!("01-{ids}-01"), &format!("00-{ids}-01-"), "00-x-y-01"] {
            assert!(!is_sampled(bad), "{bad}");
        }
    }

    #[test]
    fn tells_ms_with_three_digits_behind_the_point() {
        let mut told = String::new();
        tell(&mut told, "freeze", Duration::from_micros(12_034));
        assert_eq!(told, "freeze;dur=12.034");
    }

    #[test]
    fn tells_the_whole_first_and_then_its_steps_in_order() {
        let timing = Timing { begun: Instant::now(), steps: Arc::default() };
        timing.add("freeze", Instant::now());
        timing.add("drop", Instant::now());
        let told = timing.header();
        let names: Vec<_> =
            told.to_str().unwrap_or("").split(", ").filter_map(|entry| entry.split(';').next()).collect();
        assert_eq!(names, ["handler", "freeze", "drop"]);
    }
}

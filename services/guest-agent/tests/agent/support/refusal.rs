//! Errors as Connect tells them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::Value;

/// An error in the words that clients branch on.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    pub code: String,
    pub reason: String,
    pub message: String,
    info: Vec<u8>,
}

impl Refusal {
    pub fn of(error: &Value) -> Self {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        // google.rpc.ErrorInfo: field 1 is the reason, so its length is the second byte.
        let value = text(&error["details"][0]["value"]);
        let info = STANDARD_NO_PAD.decode(value.trim_end_matches('=')).unwrap_or_default();
        let reason = info.get(1).and_then(|&n| info.get(2..2 + usize::from(n))).unwrap_or_default();
        Self {
            code: text(&error["code"]),
            reason: String::from_utf8_lossy(reason).into_owned(),
            message: text(&error["message"]),
            info,
        }
    }

    /// A value of ErrorInfo's metadata: behind its key come a tag and a length.
    pub fn metadata(&self, key: &str) -> Option<String> {
        let at = self.info.windows(key.len()).position(|w| w == key.as_bytes())? + key.len();
        let n = usize::from(*self.info.get(at + 1)?);
        Some(String::from_utf8_lossy(self.info.get(at + 2..at + 2 + n)?).into_owned())
    }

    pub fn words(&self) -> (&str, &str) {
        (&self.code, &self.reason)
    }
}

//! Who may transfer a file: who shows a token, or has an URL that was signed with it as E2B's clients sign.
//! A guest that was never given a token is open, since nobody but its host reaches it.

use super::query::Query;
use crate::fault::{Fault, Outcome, Reason};
use crate::machine;
use crate::plain::TOKEN_HEADER;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::HeaderMap;
use sha2::{Digest as _, Sha256};

#[derive(Debug, Clone, Copy)]
pub enum Operation {
    Read,
    Write,
}

pub fn check(headers: &HeaderMap, query: &Query, operation: Operation, secrets: &[String]) -> Outcome<()> {
    check_at(machine::now().as_secs(), headers, query, operation, secrets)
}

fn check_at(now: u64, headers: &HeaderMap, query: &Query, operation: Operation, secrets: &[String]) -> Outcome<()> {
    let refused = |why: &str| Err(Fault::new(Reason::Unauthenticated, why));
    if secrets.is_empty() {
        return Ok(());
    }
    if let Some(token) = headers.get(TOKEN_HEADER) {
        let is_known = secrets.iter().any(|secret| is_equal(secret.as_bytes(), token.as_bytes()));
        return if is_known { Ok(()) } else { refused("the X-Access-Token header does not hold the sandbox's token") };
    }
    let Some(signature) = &query.signature else { return refused("the URL is not signed") };
    let Ok(expires) = query.signature_expiration.as_ref().map(|e| e.parse::<u64>()).transpose() else {
        return refused("signature_expiration is no time in seconds");
    };
    // Base64 has pluses, which careless clients leave as they are.
    let signature = signature.replace(' ', "+");
    let is_valid =
        |secret: &String| is_equal(signature_of(query, operation, secret, expires).as_bytes(), signature.as_bytes());
    match (secrets.iter().any(is_valid), expires) {
        (false, _) => refused("the signature does not match"),
        (true, Some(expires)) if expires < now => refused("the signature has expired"),
        _ => Ok(()),
    }
}

fn signature_of(query: &Query, operation: Operation, secret: &str, expires: Option<u64>) -> String {
    let (path, user) = (query.path.as_deref().unwrap_or_default(), query.username.as_deref().unwrap_or_default());
    let operation = match operation {
        Operation::Read => "read",
        Operation::Write => "write",
    };
    let mut text = format!("{path}:{operation}:{user}:{secret}");
    if let Some(expires) = expires {
        text.push_str(&format!(":{expires}"));
    }
    format!("v1_{}", STANDARD_NO_PAD.encode(Sha256::digest(text)))
}

/// In a time that does not tell how much of it is equal.
pub fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    a.len() == b.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn query(text: &str) -> Query {
        Query::of(text).unwrap_or_else(|f| panic!("{}", f.message))
    }

    fn reason(now: u64, headers: &HeaderMap, text: &str) -> Option<Reason> {
        let secrets = ["another".to_owned(), SECRET.to_owned()];
        check_at(now, headers, &query(text), Operation::Read, &secrets).err().map(|f| f.reason)
    }

    #[test]
    fn signs_as_e2b_does() {
        // printf '%s' /a:read:ann:$SECRET:1000 | openssl dgst -sha256 -binary | base64
        let signed = query("path=/a&username=ann");
        let got = signature_of(&signed, Operation::Read, SECRET, Some(1000));
        assert_eq!(got, "v1_WEScnsc6rDMM/+SjjAxtCQ8kDI7+FZgebe/dFeK3j04");
        let got = signature_of(&query("path=/a"), Operation::Write, SECRET, None);
        assert_eq!(got, "v1_hwvqoOA8mh+mqGHwxCM49+WlxOYriFJU+7n/ivWSJJo");
    }

    #[test]
    fn admits_a_valid_signature_until_it_expires_and_for_nothing_else() {
        let none = HeaderMap::new();
        let signature = signature_of(&query("path=/a&username=ann"), Operation::Read, SECRET, Some(1000));
        let signature = signature.replace('+', "%2B");
        let good = format!("path=/a&username=ann&signature={signature}&signature_expiration=1000");
        assert_eq!(reason(1000, &none, &good), None);
        let refused = Some(Reason::Unauthenticated);
        assert_eq!(reason(1001, &none, &good), refused);
        for bad in [
            good.replace("/a", "/b"),
            good.replace("=ann", "=root"),
            good.replace("=ann", "="),
            good.replace("=1000", "=2000"),
            good.replace("=1000", "=x"),
            good.replace("&signature_expiration=1000", ""),
            good.replace("v1_", "v2_"),
            good.replace(&signature, ""),
            "path=/a".to_owned(),
        ] {
            assert_eq!(reason(1000, &none, &bad), refused, "{bad}");
        }
        let written = check_at(1000, &none, &query(&good), Operation::Write, &[SECRET.to_owned()]);
        assert_eq!(written.err().map(|f| f.reason), refused, "a signature to read does not allow to write");
    }

    #[test]
    fn admits_a_token_and_refuses_a_wrong_one_whatever_is_signed() {
        let mut headers = HeaderMap::new();
        headers.insert(TOKEN_HEADER, HeaderValue::from_static(SECRET));
        assert_eq!(reason(0, &headers, "path=/a"), None);
        let signature = signature_of(&query("path=/a"), Operation::Read, SECRET, None).replace('+', "%2B");
        headers.insert(TOKEN_HEADER, HeaderValue::from_static("0123"));
        assert_eq!(reason(0, &headers, &format!("path=/a&signature={signature}")), Some(Reason::Unauthenticated));
        assert!(check_at(0, &HeaderMap::new(), &query("path=/a"), Operation::Write, &[]).is_ok());
    }
}

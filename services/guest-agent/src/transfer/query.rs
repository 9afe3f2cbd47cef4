//! The query of a `/files` request. Of a name given twice the first counts, for the signature as for the rest.

use crate::fault::{Fault, Outcome, Reason};

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub path: Option<String>,
    pub username: Option<String>,
    pub signature: Option<String>,
    pub signature_expiration: Option<String>,
    /// Permission bits, octal; Wrenn's own.
    pub mode: Option<u32>,
}

impl Query {
    pub fn of(text: &str) -> Outcome<Self> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match decoded(name)?.as_str() {
                "path" => &mut query.path,
                "username" => &mut query.username,
                "signature" => &mut query.signature,
                "signature_expiration" => &mut query.signature_expiration,
                "mode" if query.mode.is_none() => {
                    query.mode = Some(mode(value)?);
                    continue;
                }
                _ => continue,
            };
            let value = decoded(value)?;
            slot.get_or_insert(value);
        }
        Ok(query)
    }
}

fn mode(text: &str) -> Outcome<u32> {
    let bits = text.chars().try_fold(0u32, |bits, c| bits.checked_mul(8)?.checked_add(c.to_digit(8)?));
    let bits = bits.filter(|bits| (1..=0o777).contains(bits));
    bits.ok_or_else(|| Fault::new(Reason::BadMode, format!("mode {text:?} is not an octal number of 1 to 777")))
}

fn decoded(text: &str) -> Outcome<String> {
    let bad = || Fault::new(Reason::BadPath, "the query is not percent-encoded UTF-8");
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().ok_or_else(bad)?, rest.next().ok_or_else(bad)?];
                let [high, low] = digits.map(|d| char::from(d).to_digit(16));
                u8::try_from(high.ok_or_else(bad)? * 16 + low.ok_or_else(bad)?).map_err(|_| bad())?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_percents_and_pluses_and_takes_the_first_of_equal_names() -> Outcome<()> {
        let query = Query::of("path=%2Fa+b%2f%C3%BC&username=ann&path=/other&x=y&mode=640&signature=v1_a%2Bb")?;
        assert_eq!(query.path.as_deref(), Some("/a b/ü"));
        assert_eq!((query.username.as_deref(), query.mode), (Some("ann"), Some(0o640)));
        assert_eq!(query.signature.as_deref(), Some("v1_a+b"));
        assert_eq!(Query::of("")?, Query::default());
        assert_eq!(Query::of("path")?.path.as_deref(), Some(""));
        Ok(())
    }

    #[test]
    fn refuses_what_is_no_text_and_no_mode() {
        for bad in ["path=%", "path=%4", "path=%zz", "path=%ff", "path=%+1"] {
            assert_eq!(Query::of(bad).err().map(|f| f.reason), Some(Reason::BadPath), "{bad}");
        }
        for bad in ["mode=", "mode=0", "mode=8", "mode=1000", "mode=-1", "mode=+7"] {
            assert_eq!(Query::of(bad).err().map(|f| f.reason), Some(Reason::BadMode), "{bad}");
        }
    }
}

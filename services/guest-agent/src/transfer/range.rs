//! Which bytes of a file a `Range` header asks for.

#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    All,
    /// First byte and number of bytes, at least one.
    Part(u64, u64),
    Unsatisfiable,
}

/// What is malformed, or asks for several parts, may be answered with all of the file.
pub fn wanted(header: Option<&str>, len: u64) -> Wanted {
    let Some((first, last)) = header.and_then(|h| h.trim().strip_prefix("bytes=")).and_then(|r| r.split_once('-'))
    else {
        return Wanted::All;
    };
    match (number(first), number(last)) {
        (Ok(None), Ok(Some(suffix))) => match suffix.min(len) {
            0 => Wanted::Unsatisfiable,
            n => Wanted::Part(len - n, n),
        },
        (Ok(Some(first)), Ok(last)) if last.is_none_or(|last| last >= first) => match last {
            _ if first >= len => Wanted::Unsatisfiable,
            Some(last) => Wanted::Part(first, last.min(len - 1) - first + 1),
            None => Wanted::Part(first, len - first),
        },
        _ => Wanted::All,
    }
}

fn number(text: &str) -> Result<Option<u64>, ()> {
    match text.trim() {
        "" => Ok(None),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map(Some).map_err(drop),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges_as_rfc_9110_has_them() {
        for (header, len, want) in [
            ("bytes=0-0", 10, Wanted::Part(0, 1)),
            ("bytes=2-5", 10, Wanted::Part(2, 4)),
            ("bytes=2-", 10, Wanted::Part(2, 8)),
            ("bytes=-3", 10, Wanted::Part(7, 3)),
            ("bytes=-30", 10, Wanted::Part(0, 10)),
            ("bytes=9-99999999999", 10, Wanted::Part(9, 1)),
            ("bytes=10-", 10, Wanted::Unsatisfiable),
            ("bytes=-0", 10, Wanted::Unsatisfiable),
            ("bytes=0-", 0, Wanted::Unsatisfiable),
            ("bytes=-1", 0, Wanted::Unsatisfiable),
            ("bytes=5-2", 10, Wanted::All),
            ("bytes=-", 10, Wanted::All),
            ("bytes=0-1,3-4", 10, Wanted::All),
            ("bytes=+1-2", 10, Wanted::All),
            ("bytes=0-99999999999999999999", 10, Wanted::All),
            ("lines=0-1", 10, Wanted::All),
            ("", 10, Wanted::All),
        ] {
            assert_eq!(wanted(Some(header), len), want, "{header} of {len}");
        }
        assert_eq!(wanted(None, 10), Wanted::All);
    }
}

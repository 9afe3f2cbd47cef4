//! Where characters end, in bytes that need not be text.

/// The most that `missing` answers.
pub const MOST_MISSING: usize = 3;

/// How many bytes follow the first one of a character; 0: it is a character alone, or none.
pub fn following(first: u8) -> usize {
    match first {
        0xc2..=0xdf => 1,
        0xe0..=0xef => 2,
        0xf0..=0xf4 => 3,
        _ => 0,
    }
}

/// How many more bytes the character needs that these end within; 0: they end between two, or are no text there.
pub fn missing(bytes: &[u8]) -> usize {
    let is_inner = |byte: &&u8| (0x80..=0xbf).contains(*byte);
    let inner = bytes.iter().rev().take(MOST_MISSING).take_while(is_inner).count();
    let first = bytes.len().checked_sub(inner + 1).map_or(0, |at| following(bytes[at]));
    first.saturating_sub(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_a_character_misses_and_wants_nothing_for_what_is_none() {
        let euro = "a\u{20ac}".as_bytes();
        assert_eq!([2, 3, 4].map(|n| missing(&euro[..n])), [2, 1, 0]);
        let face = "\u{1f600}".as_bytes();
        assert_eq!([1, 2, 3, 4].map(|n| missing(&face[..n])), [3, 2, 1, 0]);
        for none in [&b""[..], b"a", b"\x80", b"\x80\x80\x80\x80", b"\xc0", b"\xff", b"\xf5\x80", b"\xc3\xa4\xa4"] {
            assert_eq!(missing(none), 0, "{none:?}");
        }
    }
}

//! What a terminal shows. Who comes later is painted that, and need not be told all that led to it.

use super::pty::Size;
use super::utf8::following;
use std::num::NonZeroU16;

/// Beyond these a terminal works, but what is there is not remembered, for the guest's memory.
const MOST_COLS: u16 = 500;
const MOST_ROWS: u16 = 250;
const CELL_BYTES: usize = 32;
/// What fits into one message. A picture with more in it, of colours that change with each cell, is painted plain.
const PAINTED_BYTES: usize = 3 << 20;
/// Of one control sequence; what is longer is no text, and nobody draws it by half.
const BEGUN_BYTES: usize = 4096;
/// Undoes what a viewer's own terminal may have from before: margins, character set, colours, reports of the mouse.
const ANEW: &[u8] = b"\x1b[r\x1b[?6l\x1b(B\x0f\x1b[m\x1b[?9;1000;1002;1003;1005;1006;2004l";
const PRIMARY: &[u8] = b"\x1b[?1049l";
const ALTERNATE: &[u8] = b"\x1b[?1049h";

pub struct Screen {
    size: Size,
    model: vt100::Parser,
    begun: Begun,
}

fn cells(size: Size) -> (NonZeroU16, NonZeroU16) {
    let cells = |n: u16, most: u16| NonZeroU16::new(n.min(most)).unwrap_or(NonZeroU16::MIN);
    (cells(size.rows, MOST_ROWS), cells(size.cols, MOST_COLS))
}

impl Screen {
    pub fn new(size: Size) -> Self {
        let (rows, cols) = cells(size);
        Self { size, model: vt100::Parser::new(rows, cols, 0), begun: Begun::default() }
    }

    pub fn size(&self) -> Size {
        self.size
    }

    /// At most: the other side of a screen is made when it is used.
    pub fn kept_bytes(&self) -> usize {
        let (rows, cols) = cells(self.size);
        2 * CELL_BYTES * usize::from(rows.get()) * usize::from(cols.get())
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.begun.write(bytes);
        self.model.process(bytes);
    }

    pub fn resize(&mut self, size: Size) {
        self.size = size;
        let (rows, cols) = cells(size);
        self.model.screen_mut().set_size(rows, cols);
    }

    /// Makes another terminal show the same, and go on from there.
    pub fn painted(&self) -> Vec<u8> {
        let screen = self.model.screen();
        let side = if screen.alternate_screen() { ALTERNATE } else { PRIMARY };
        let mut state = screen.state_formatted();
        if state.len() > PAINTED_BYTES {
            let plain = screen.contents().replace('\n', "\r\n");
            state = format!("\x1b[H\x1b[J{plain}{}", screen.input_mode_formatted());
        }
        [ANEW, side, state.as_bytes(), &self.begun.bytes].concat()
    }
}

/// A control sequence or character that is not complete. A terminal that got its rest alone would show that as text.
#[derive(Default)]
struct Begun {
    within: Within,
    bytes: Vec<u8>,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Within {
    #[default]
    Nothing,
    Escape,
    Control,
    /// Up to a bell or `ESC \`, like a title.
    Text,
    /// That many more bytes.
    Character(usize),
}

impl Begun {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let was = self.within;
            self.within = was.after(byte);
            match (was, self.within) {
                (_, Within::Nothing) => self.bytes.clear(),
                // It ends what was before, but for a text, whose end it may be a part of.
                _ if byte == 0x1b && was != Within::Text => self.bytes = vec![byte],
                (_, Within::Character(_)) if byte >= 0xc0 => self.bytes = vec![byte],
                _ if self.bytes.len() < BEGUN_BYTES => self.bytes.push(byte),
                _ => {}
            }
        }
    }
}

impl Within {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (_, 0x18 | 0x1a) => Self::Nothing,
            (_, 0x1b) => Self::Escape,
            (Self::Text, 0x07) => Self::Nothing,
            (Self::Text, _) => Self::Text,
            (Self::Character(left @ 2..), 0x80..=0xbf) => Self::Character(left - 1),
            (Self::Character(_), 0x80..=0xbf) => Self::Nothing,
            (Self::Escape, b'[') => Self::Control,
            (Self::Escape, b']' | b'P' | b'X' | b'^' | b'_') => Self::Text,
            (Self::Escape, 0..=0x2f | 0x7f) => Self::Escape,
            (Self::Control, 0..=0x3f | 0x7f) => Self::Control,
            (Self::Nothing | Self::Character(_), 0xc2..=0xf4) => Self::Character(following(byte)),
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size { cols: 20, rows: 5 };

    fn shown(size: Size, pieces: &[&[u8]]) -> Screen {
        let mut screen = Screen::new(size);
        pieces.iter().for_each(|piece| screen.write(piece));
        screen
    }

    /// What another terminal shows that was painted this and then written the rest to.
    fn seen_later(screen: &Screen, rest: &[u8]) -> String {
        let mut later = vt100::Parser::new(cells(screen.size).0, cells(screen.size).1, 0);
        // It was in use for something else before.
        later.process(b"\x1b[?1049h\x1b[?1003h\x1b[2;3r\x1b[7mrubbish\x1b[5;1H");
        later.process(&screen.painted());
        later.process(rest);
        later.screen().state_formatted()
    }

    /// A stream of all sorts, the same for the same seed.
    fn stream(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap_or(0) % below
        };
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let piece = match random(12) {
                0 => format!("\x1b[{};{}H", random(7), random(24)),
                1 => format!("\x1b[{}m", random(50)),
                2 => format!("\x1b[38;2;{};{};{}m", random(256), random(256), random(256)),
                3 => format!("\x1b[{}{}", random(4), ['J', 'K', 'L', 'M', 'P', '@', 'X', 'S'][random(8)]),
                4 => "\r\n".to_owned(),
                5 => ["\u{e9}", "\u{20ac}", "\u{4e2d}", "\u{1f600}", "e\u{301}"][random(5)].to_owned(),
                6 => {
                    ["\x1b[?1h", "\x1b[?1l", "\x1b[?2004h", "\x1b[?1002h", "\x1b[?1006h", "\x1b="][random(6)].to_owned()
                }
                7 => format!("\x1b]0;title {}{}", random(10), ["\x07", "\x1b\\"][random(2)]),
                8 => format!("\x1b[?{}{}", [25, 1049][random(2)], ['h', 'l'][random(2)]),
                _ => "some text ".chars().take(random(10) + 1).collect(),
            };
            bytes.extend(piece.as_bytes());
        }
        bytes
    }

    #[test]
    fn a_terminal_that_is_painted_it_at_any_moment_shows_the_same_and_goes_on_alike() {
        for seed in 1..25 {
            let bytes = stream(seed, 400);
            let want = shown(SMALL, &[&bytes]).model.screen().state_formatted();
            // Where a side is left later, what was below it is not in the picture.
            let leave = b"\x1b[?1049l";
            let last = bytes.windows(leave.len()).rposition(|window| window == leave);
            for at in last.map_or(0, |at| at + leave.len())..=bytes.len() {
                let (before, rest) = bytes.split_at(at);
                let got = seen_later(&shown(SMALL, &[before]), rest);
                assert_eq!(got, want, "seed {seed}, painted after {at} of {:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }

    #[test]
    fn repeats_what_has_begun_and_nothing_that_is_complete() {
        for (bytes, begun) in [
            (&b"text"[..], &b""[..]),
            (b"\x1b", b"\x1b"),
            (b"\x1b[31", b"\x1b[31"),
            (b"\x1b[31m", b""),
            (b"\x1b[3\x1b[4", b"\x1b[4"),
            (b"\x1b(", b"\x1b("),
            (b"\x1b(B", b""),
            (b"\x1b]0;a title", b"\x1b]0;a title"),
            (b"\x1b]0;a title\x1b", b"\x1b]0;a title\x1b"),
            (b"\x1b]0;a title\x1b\\", b""),
            (b"\x1b]0;a title\x07", b""),
            (b"\x1bPq data", b"\x1bPq data"),
            (b"\x1bPq data\x18", b""),
            (b"\xe2\x82", b"\xe2\x82"),
            (b"\xe2\x82\xac", b""),
            (b"\xe2\xc3", b"\xc3"),
            (b"\xe2a", b""),
            (b"\xff\x80", b""),
        ] {
            assert_eq!(shown(SMALL, &[bytes]).begun.bytes, begun, "{:?}", String::from_utf8_lossy(bytes));
        }
        let long = [b"\x1b]52;c;".as_slice(), &[b'A'; 100_000]].concat();
        assert_eq!(shown(SMALL, &[&long]).begun.bytes.len(), BEGUN_BYTES);
    }

    #[test]
    fn follows_a_resize() {
        let mut screen = shown(SMALL, &[b"one\r\ntwo"]);
        screen.resize(Size { cols: 10, rows: 2 });
        assert!(seen_later(&screen, b"").contains("two"));
        screen.resize(Size { cols: u16::MAX, rows: u16::MAX });
        screen.write(b"\x1b[65535;65535Hcorner");
        assert_eq!(screen.size(), Size { cols: u16::MAX, rows: u16::MAX });
        assert!(screen.painted().len() < PAINTED_BYTES);
    }

    #[test]
    fn paints_plain_what_would_be_too_large_in_colour() {
        let mut screen = Screen::new(Size { cols: MOST_COLS, rows: MOST_ROWS });
        for n in 0..usize::from(MOST_COLS) * usize::from(MOST_ROWS) {
            let colour = format!("\x1b[38;2;{};200;200;48;2;100;100;{}mx", n % 256, n / 256 % 256);
            screen.write(colour.as_bytes());
        }
        let painted = screen.painted();
        assert!(painted.len() < PAINTED_BYTES, "{}", painted.len());
        assert_eq!(painted.iter().filter(|&&b| b == b'x').count(), usize::from(MOST_COLS) * usize::from(MOST_ROWS));
    }

    #[test]
    fn survives_whatever_is_written_to_it() {
        const ALPHABET: &[u8] = b"\x1b[]?;HJKmrhlLMPXS@0123456789\r\n\t\x08";
        for seed in 1..8_u64 {
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 33
            };
            let mut screen = Screen::new(Size { cols: 1, rows: 1 });
            for _ in 0..300 {
                let noise: Vec<u8> = (0..100)
                    .map(|_| match random() % 4 {
                        0 => ALPHABET[random() as usize % ALPHABET.len()],
                        _ => random() as u8,
                    })
                    .collect();
                screen.write(&noise);
                screen.write(&stream(random(), 50));
                screen.resize(Size { cols: (random() % 90 + 1) as u16, rows: (random() % 30 + 1) as u16 });
                screen.painted();
            }
        }
    }
}

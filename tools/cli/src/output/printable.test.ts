import { expect, test } from 'vitest';

import { printable, printableLines } from './printable.ts';

test('leaves ordinary text of any script alone', () => {
  expect(printable('grün 日本 🙂 a=b')).toBe('grün 日本 🙂 a=b');
});

test('escapes what steers a terminal or hides text', () => {
  expect(printable('\x1b[31mred\x07')).toBe('\\u{1b}[31mred\\u{7}');
  expect(printable('a\nb\x7f\x9b')).toBe('a\\u{a}b\\u{7f}\\u{9b}');
  expect(printable('user\u202egnp.exe')).toBe('user\\u{202e}gnp.exe');
});

test('keeps the lines of a log and nothing else of its control characters', () => {
  expect(printableLines('one\r\ntwo\tx\n\x1b[2J')).toBe('one\ntwo    x\n\\u{1b}[2J');
});

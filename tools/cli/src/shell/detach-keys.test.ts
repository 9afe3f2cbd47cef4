import { describe, expect, test } from 'vitest';

import { UsageError } from '../exit-codes.ts';
import { DetachKeys, defaultDetachKeys, parseDetachKeys } from './detach-keys.ts';

// What is passed for pieces that are typed one after the other, and whether they detach.
function typing(keys: string, ...pieces: string[]): string {
  const detach = new DetachKeys(parseDetachKeys(keys));
  let passed = '';
  for (const piece of pieces) {
    const typed = detach.take(Buffer.from(piece));
    passed += Buffer.from(typed.passed).toString();
    if (typed.isDetaching) return `${passed}<detached>`;
  }
  return passed;
}

describe('the default, ~. at the beginning of a line', () => {
  test.each([
    [['~.'], '<detached>'],
    [['ls\r', '~', '.'], 'ls\r<detached>'],
    [['ls\r~.rest'], 'ls\r<detached>'],
    [['a~.'], 'a~.'],
    [['\r~/bin\r'], '\r~/bin\r'],
    [['\r~', 'x'], '\r~x'],
    [['\r~\r~.'], '\r~\r<detached>'],
    [['\r\r~.'], '\r\r<detached>'],
    [['\r~~.'], '\r~~.'],
  ])('%j', (pieces, passed) => {
    expect(typing(defaultDetachKeys, ...pieces)).toBe(passed);
  });

  test('holds nothing back but the ~ that may be its beginning', () => {
    expect(typing(defaultDetachKeys, '\r')).toBe('\r');
    expect(typing(defaultDetachKeys, '\r~')).toBe('\r');
    expect(typing(defaultDetachKeys, 'x~')).toBe('x~');
  });
});

test.each([
  ['ctrl-p,ctrl-q', ['\u0010', '\u0011'], '<detached>'],
  ['ctrl-p,ctrl-q', ['\u0010x\u0010\u0010\u0011'], '\u0010x\u0010<detached>'],
  ['ctrl-]', ['ab\u001dcd'], 'ab<detached>'],
  ['ctrl-@', ['\u0000'], '<detached>'],
  ['q', ['abcq'], 'abc<detached>'],
])('other keys can be chosen: %s (case %#)', (keys, pieces, passed) => {
  expect(typing(keys, ...pieces)).toBe(passed);
});

test('bytes that are no text pass as they are', () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, n) => 255 - n);
  const { passed } = new DetachKeys(parseDetachKeys('enter,~,.')).take(bytes);
  expect(passed).toEqual(bytes);
});

test.each(['', 'ctrl-', 'ctrl-1', 'ab', 'ctrl-p,', 'ä', ' ', 'enter', 'enter,enter'])('refuses %j', (text) => {
  expect(() => parseDetachKeys(text)).toThrow(UsageError);
});

import { expect, test } from 'vitest';

import { BodyScanner } from './body-scanner.ts';
import { BadMessage, type Framing } from './fields.ts';

// Feeds a text in pieces of a size and returns how much of it was the body.
function scan(framing: Framing, text: string, pieceSize: number): { taken: number; isDone: boolean } {
  const scanner = new BodyScanner(framing);
  const bytes = Buffer.from(text, 'latin1');
  let taken = 0;
  for (let at = 0; at < bytes.length && !scanner.isDone; at += pieceSize)
    taken += scanner.take(bytes.subarray(at, at + pieceSize));
  return { taken, isDone: scanner.isDone };
}

const chunked = { kind: 'chunked' } as const;
const sizes = [1, 2, 3, 1000];

test.each([
  ['no chunk', '0\r\n\r\n'],
  ['two chunks', '5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n'],
  ['line ends within a chunk', '4\r\n\r\n\r\n\r\n0\r\n\r\n'],
  ['digits in capitals and leading zeros', '000A\r\n0123456789\r\n0\r\n\r\n'],
  ['extensions', '1;a=b;c="d e"\r\nx\r\n0;last\r\n\r\n'],
  ['trailers', '0\r\nDigest: sha-256=x\r\nX-Empty:\r\n\r\n'],
])('a chunked body of %s ends where it ends, however it is cut', (_what, text) => {
  for (const size of sizes)
    expect(scan(chunked, `${text}GET / HTTP/1.1\r\n`, size)).toEqual({ taken: text.length, isDone: true });
});

test.each([
  ['a size in hex notation', '0x5\r\nhello\r\n'],
  ['an empty size', '\r\n'],
  ['an extension without a size', ';a\r\n'],
  ['a negative size', '-1\r\n'],
  ['a space after the size', '5 \r\nhello\r\n'],
  ['a space before the size', ' 5\r\nhello\r\n'],
  ['a size of 13 digits', '0000000000005\r\nhello\r\n'],
  ['a bare LF after the size', '5\nhello\r\n'],
  ['a bare LF in an extension', '5;a\nb\r\nhello\r\n'],
  ['a bare CR in an extension', '5;a\rb\r\nhello\r\n'],
  ['a chunk longer than it says', '4\r\nhello\r\n0\r\n\r\n'],
  ['a chunk ended by LF', '5\r\nhello\n0\r\n\r\n'],
  ['a line of 5,000 characters', `5;${'a'.repeat(5000)}`],
  ['a trailer that declares a length', '0\r\nContent-Length: 5\r\n\r\n'],
  ['a trailer that is folded', '0\r\nX: a\r\n b\r\n\r\n'],
  ['a trailer without a name', '0\r\n: a\r\n\r\n'],
  ['trailers of 20 KB', `0\r\n${`X: ${'a'.repeat(1000)}\r\n`.repeat(20)}\r\n`],
])('%s is refused, however it is cut', (_what, text) => {
  for (const size of sizes) expect(() => scan(chunked, text, size)).toThrow(BadMessage);
});

test('a length is counted to the byte', () => {
  for (const size of sizes) {
    expect(scan({ kind: 'length', length: 5 }, 'helloGET /', size)).toEqual({ taken: 5, isDone: true });
    expect(scan({ kind: 'length', length: 5 }, 'hell', size)).toEqual({ taken: 4, isDone: false });
  }
});

test('what has no body is done at once, and what ends with the connection never is', () => {
  expect(new BodyScanner({ kind: 'none' }).isDone).toBe(true);
  expect(new BodyScanner({ kind: 'length', length: 0 }).isDone).toBe(true);
  expect(scan({ kind: 'close' }, '0\r\n\r\nanything', 3)).toEqual({ taken: 13, isDone: false });
});

test('a chunk of four gigabytes is counted without being kept', () => {
  const scanner = new BodyScanner(chunked);
  scanner.take(Buffer.from('100000000\r\n'));
  const piece = Buffer.alloc(64 * 1024 * 1024);
  for (let n = 0; n < 64; n++) expect(scanner.take(piece)).toBe(piece.length);
  expect(scanner.take(Buffer.from('\r\n0\r\n\r\n'))).toBe(7);
  expect(scanner.isDone).toBe(true);
});

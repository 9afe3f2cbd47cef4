import { expect, test } from 'vitest';

import { LineSplitter } from './line-splitter.ts';

test('lines come whole, wherever the bytes were cut', () => {
  const bytes = Buffer.from('grün\r\nzwei\nrest');
  for (let at = 0; at <= bytes.length; at++) {
    const lines = new LineSplitter();
    const taken = [...lines.take(bytes.subarray(0, at)), ...lines.take(bytes.subarray(at))];
    expect([...taken, lines.end()]).toEqual(['grün', 'zwei', 'rest']);
  }
});

test('a line that does not end is cut, and costs no memory', () => {
  const lines = new LineSplitter();
  expect(lines.take(Buffer.alloc(20_000, 'x')).map(({ length }) => length)).toEqual([8192, 8192]);
  expect(lines.end()).toHaveLength(20_000 - 2 * 8192);
});

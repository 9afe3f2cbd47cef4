import { expect, test } from 'vitest';

import { table } from './table.ts';

test('aligns columns to their widest cell and pads no line end', () => {
  const text = table(
    ['ID', 'STATE'],
    [
      ['cl-1', 'running'],
      ['cl-long', ''],
    ],
  );
  expect(text).toBe('ID       STATE\ncl-1     running\ncl-long');
});

test('counts characters, not bytes', () => {
  expect(table(['A', 'B'], [['ü🙂', 'x']])).toBe('A   B\nü🙂  x');
});

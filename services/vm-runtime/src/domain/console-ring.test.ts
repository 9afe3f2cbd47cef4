import { expect, test } from 'vitest';

import { ConsoleRing } from './console-ring.ts';

test('keeps the last bytes only, across and within appends', () => {
  const ring = new ConsoleRing(4);
  ring.append(Buffer.from('ab'));
  expect(Buffer.from(ring.bytes).toString()).toBe('ab');
  ring.append(Buffer.from('cde'));
  expect(Buffer.from(ring.bytes).toString()).toBe('bcde');
  ring.append(Buffer.from('0123456789'));
  expect(Buffer.from(ring.bytes).toString()).toBe('6789');
});

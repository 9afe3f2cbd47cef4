import { create } from '@bufbuild/protobuf';
import { DurationSchema } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';

import { durationOfMs, msOfDuration } from './duration.ts';

test.each([
  [0, 0n, 0],
  [1.5, 0n, 1_500_000],
  [1000, 1n, 0],
  [999.999_999_9, 1n, 0],
  [86_400_000, 86_400n, 0],
  [-1.5, 0n, -1_500_000],
  [-1500, -1n, -500_000_000],
  [Number.MAX_SAFE_INTEGER, 9_007_199_254_740n, 991_000_000],
])('%d ms is %d s and %d ns', (ms, seconds, nanos) => {
  expect(durationOfMs(ms)).toEqual({ seconds, nanos });
  expect(msOfDuration(create(DurationSchema, { seconds, nanos }))).toBeCloseTo(ms, 3);
});

test('what is below a microsecond is rounded away', () => {
  expect(msOfDuration(create(DurationSchema, { nanos: 1_234_567 }))).toBe(1.235);
});

import { expect, test } from 'vitest';

import { median, row } from './measurement.ts';

test('the median does not care for order or for one wild value', () => {
  expect(median([5, 1, 1000])).toBe(5);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(() => median([])).toThrow(RangeError);
});

test('a goal is judged by the measured value, not by the rounded one that is shown', () => {
  expect(row('a', 1.150_04, 'x', { relation: '<=', value: 1.15 })).toMatchObject({ value: 1.15, met: false });
  expect(row('b', 7, 'ms', { relation: '>=', value: 7 }).met).toBe(true);
  expect(row('c', 7, 'ms').met).toBeNull();
});

import { expect, test } from 'vitest';

import { median, middleMean, percentile, row } from './measurement.ts';

test('the median does not care for order or for one wild value', () => {
  expect(median([5, 1, 1000])).toBe(5);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(() => median([])).toThrow(RangeError);
});

test('the mean of the middle half is that of all that is not wild', () => {
  expect(middleMean([1000, 3, 1, 2, -1000, 2, 4, 3])).toBe(2.5);
  expect(middleMean([7])).toBe(7);
  expect(() => middleMean([])).toThrow(RangeError);
});

test('a goal is judged by the measured value, not by the rounded one that is shown', () => {
  expect(row('a', 1.150_04, 'x', { relation: '<=', value: 1.15 })).toMatchObject({ value: 1.15, met: false });
  expect(row('b', 7, 'ms', { relation: '>=', value: 7 }).met).toBe(true);
  expect(row('c', 7, 'ms').met).toBeNull();
});

test('a percentile is one of the values, and the share of them that it says does not exceed it', () => {
  const hundred = Array.from({ length: 100 }, (_none, index) => 100 - index);
  expect([0, 0.5, 0.99, 1].map((share) => percentile(hundred, share))).toEqual([1, 50, 99, 100]);
  expect(percentile([3], 0.99)).toBe(3);
  expect(() => percentile([], 0.5)).toThrow(RangeError);
});

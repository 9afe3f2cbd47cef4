import { expect, test } from 'vitest';

import { Backoff } from './backoff.ts';

test('waits ever longer while a service keeps dying young, up to ten seconds', () => {
  const backoff = new Backoff();
  const delays = Array.from({ length: 8 }, () => backoff.nextDelayMs(100));
  expect(delays).toEqual([200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
});

test('starts over once a service has lived for as long as the longest wait', () => {
  const backoff = new Backoff();
  for (let i = 0; i < 5; i++) backoff.nextDelayMs(0);
  expect(backoff.nextDelayMs(9999)).toBe(6400);
  expect(backoff.nextDelayMs(10_000)).toBe(200);
  expect(backoff.nextDelayMs(0)).toBe(400);
});

import { afterEach, expect, test } from 'vitest';

import { EventLoopDelay } from './event-loop.ts';

let nowMs = 0;
let loop: EventLoopDelay | undefined;

afterEach(() => loop?.close());

function watched(): EventLoopDelay {
  nowMs = 1000;
  loop = new EventLoopDelay(undefined, () => nowMs);
  return loop;
}

function tickAt(atMs: number): void {
  nowMs = atMs;
  loop?.tick();
}

test('a stall is told to whatever went on during it, as far as it did', () => {
  const delay = watched();
  tickAt(1050);
  tickAt(1400); // 300 ms late.
  expect(delay.maxSince(1000)).toBe(300);
  expect(delay.maxSince(1300)).toBe(100);
  tickAt(1450);
  expect(delay.maxSince(1405)).toBe(0);
});

test('a stall that still goes on counts up to now', () => {
  const delay = watched();
  tickAt(1050);
  nowMs = 1200;
  expect(delay.maxSince(1000)).toBe(100);
  expect(delay.maxSince(1180)).toBe(20);
});

test('what is older than a minute is forgotten', () => {
  const delay = watched();
  tickAt(1120);
  for (let at = 1170; at < 70_000; at += 50) tickAt(at);
  expect(delay.maxSince(0)).toBe(0);
});

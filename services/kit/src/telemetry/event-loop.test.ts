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
  tickAt(1020);
  tickAt(1340); // 300 ms late.
  expect(delay.maxSince(1000)).toBe(300);
  expect(delay.maxSince(1240)).toBe(100);
  tickAt(1360);
  expect(delay.maxSince(1345)).toBe(0);
});

test('a stall that still goes on counts up to now', () => {
  const delay = watched();
  tickAt(1020);
  nowMs = 1140;
  expect(delay.maxSince(1000)).toBe(100);
  expect(delay.maxSince(1120)).toBe(20);
});

test('what is older than a minute is forgotten', () => {
  const delay = watched();
  tickAt(1120);
  for (let at = 1140; at < 70_000; at += 20) tickAt(at);
  expect(delay.maxSince(0)).toBe(0);
});

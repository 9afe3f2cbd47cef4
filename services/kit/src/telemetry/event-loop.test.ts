import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { EventLoopDelay } from './event-loop.ts';

let nowMs = 0;
let loop: EventLoopDelay | undefined;
let ticks: number[];

beforeEach(() => {
  ticks = [];
});

afterEach(() => {
  loop?.close();
  vi.useRealTimers();
});

// By a clock that stands still but for what a test says.
function watched(): EventLoopDelay {
  nowMs = 1000;
  loop = new EventLoopDelay(
    (delayMs) => void ticks.push(delayMs),
    () => nowMs,
  );
  return loop;
}

function tickAt(atMs: number): void {
  nowMs = atMs;
  loop?.tick();
}

test('a stall is told to whatever went on during it, as far as it did', () => {
  const delay = watched();
  const whole = delay.attend();
  tickAt(1050);
  nowMs = 1300;
  const late = delay.attend();
  tickAt(1400); // 300 ms late.
  expect(late.end()).toBe(100);
  expect(whole.end()).toBe(300);
  nowMs = 1405;
  const after = delay.attend();
  tickAt(1450);
  expect(after.end()).toBe(0);
});

test('a stall that still goes on counts up to now', () => {
  const delay = watched();
  const whole = delay.attend();
  tickAt(1050);
  nowMs = 1180;
  const late = delay.attend();
  nowMs = 1200;
  expect(whole.end()).toBe(100);
  expect(late.end()).toBe(20);
});

test('what is older than a minute is forgotten', () => {
  const delay = watched();
  const long = delay.attend();
  tickAt(1120);
  for (let at = 1170; at < 70_000; at += 50) tickAt(at);
  expect(long.end()).toBe(0);
});

test('the loop is looked at more often while somebody attends', async () => {
  vi.useFakeTimers();
  loop = new EventLoopDelay((delayMs) => void ticks.push(delayMs));
  await vi.advanceTimersByTimeAsync(2000);
  expect(ticks).toHaveLength(4);
  const attendance = loop.attend();
  await vi.advanceTimersByTimeAsync(1000);
  expect(ticks).toHaveLength(24);
  attendance.end();
  await vi.advanceTimersByTimeAsync(2050);
  expect(ticks).toHaveLength(29);
});

test('whoever attends for more than a minute is not looked after any longer', async () => {
  vi.useFakeTimers();
  loop = new EventLoopDelay((delayMs) => void ticks.push(delayMs));
  loop.attend();
  await vi.advanceTimersByTimeAsync(61_000);
  ticks = [];
  await vi.advanceTimersByTimeAsync(2000);
  expect(ticks).toHaveLength(4);
});

test('a stall at rest is noted when a call comes behind it, and is none of its own', () => {
  const delay = watched();
  nowMs = 1800; // The loop was due at 1500.
  const call = delay.attend();
  tickAt(1850);
  expect(call.end()).toBe(0);
  expect(ticks).toEqual([300, 0]);
});

import { expect, test } from 'vitest';

import { SpanClock } from './span-clock.ts';

test('tells parts of a millisecond, and follows the machine’s clock wherever that is set', () => {
  let sinceStartMs = 0;
  let machineMs = 1_790_000_000_000.25;
  const clock = new SpanClock(
    machineMs,
    () => sinceStartMs,
    () => Math.floor(machineMs),
  );
  const pass = (ms: number) => {
    sinceStartMs += ms;
    machineMs += ms;
  };
  const away = () => Math.abs(clock.nowMs() - machineMs);
  expect(away()).toBeLessThan(0.001);
  pass(0.5);
  expect(away()).toBeLessThan(0.001);
  for (const step of [0.3, -0.4, 5000, -3_600_000]) {
    machineMs += step;
    clock.nowMs();
    for (let n = 0; n < 20; n++) {
      pass(0.37);
      expect(away()).toBeLessThan(1);
    }
  }
});

test('two clocks of one machine agree', () => {
  const [one, other] = [new SpanClock(), new SpanClock(0)];
  for (let n = 0; n < 1000; n++) {
    const beforeMs = one.nowMs();
    const betweenMs = other.nowMs();
    expect(betweenMs).toBeGreaterThan(beforeMs - 1.5);
    expect(betweenMs).toBeLessThan(one.nowMs() + 1.5);
  }
});

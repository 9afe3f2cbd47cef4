import { expect, test } from 'vitest';

import { Progress } from './progress.ts';

function progressAt() {
  const written: string[] = [];
  const clock = { nowMs: 1000 };
  const progress = new Progress(
    (text) => written.push(text),
    () => clock.nowMs,
  );
  return { progress, written, clock };
}

test('shows how far it is, how fast and how long it will take, in one line that is written over', () => {
  const { progress, written, clock } = progressAt();
  progress.began('a.iso', 4 * 2 ** 20);
  clock.nowMs += 500;
  progress.passed(2 ** 20);
  expect(written.at(-1)).toBe('\r\x1b[Ka.iso  1 MiB of 4 MiB  25 %  1.50 s left  2 MiB/s');
  progress.clear();
  expect(written.at(-1)).toBe('\r\x1b[K');
});

test('is shown at most five times a second', () => {
  const { progress, written, clock } = progressAt();
  progress.began('a', undefined);
  for (let i = 0; i < 1000; i++) {
    clock.nowMs += 1;
    progress.passed(10);
  }
  expect(written.length).toBeLessThanOrEqual(6);
  expect(written.at(-1)).not.toContain('%');
});

test('takes away nothing that it has not shown', () => {
  const { progress, written } = progressAt();
  progress.began('a', 0);
  progress.clear();
  expect(written).toEqual([]);
});

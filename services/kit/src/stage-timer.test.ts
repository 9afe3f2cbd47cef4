import { expect, test } from 'vitest';

import { StageTimer } from './stage-timer.ts';

test('tells overlapping stages in order of their start, failed ones included', async () => {
  let nowMs = 1000;
  const timer = new StageTimer(() => nowMs);
  const gate = Promise.withResolvers<void>();
  nowMs = 1005;
  const slow = timer.time('slow', () => gate.promise);
  nowMs = 1010;
  await expect(
    timer.time('failing', async () => {
      nowMs = 1012;
      throw new Error('no');
    }),
  ).rejects.toThrow('no');
  nowMs = 1030;
  gate.resolve();
  await slow;
  expect(timer.stages).toEqual([
    { stage: 'slow', startedAfterMs: 5, durationMs: 25 },
    { stage: 'failing', startedAfterMs: 10, durationMs: 2 },
  ]);
});

test('stages that a callee tells of lie in the middle of its call', async () => {
  let nowMs = 0;
  const timer = new StageTimer(() => nowMs);
  nowMs = 40;
  const made = await timer.include(async () => {
    nowMs = 59;
    return { id: 7, timings: [{ stage: 'boot', startedAfterMs: 2, durationMs: 9 }] };
  });
  expect(made.id).toBe(7);
  expect(timer.stages).toEqual([{ stage: 'boot', startedAfterMs: 46, durationMs: 9 }]);
});

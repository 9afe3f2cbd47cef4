import { expect, test } from 'vitest';

import { type Usage, UsageHistory, usageSpans } from './usage-history.ts';

const startMs = 1_800_000_000_000;

function usageAt(endMs: number, change: Partial<Usage> = {}): Usage {
  const rest = { memoryBytes: 10, diskBytes: 20, receivedBytes: 3, sentBytes: 4 };
  return { endMs, coveredMs: 5000, cpuMs: 100, ...rest, ...change };
}

function historyOf(seconds: number): UsageHistory {
  const history = new UsageHistory();
  for (let s = 5; s <= seconds; s += 5) history.add(usageAt(startMs + s * 1000 - 1));
  return history;
}

test.each([
  ['ten minutes', 600],
  ['two hours', 7200],
  ['day', 86_400],
] as const)('%s are covered without a gap after a day, and no more', (span, seconds) => {
  const history = historyOf(90_000);
  const points = history.points(span, startMs + 90_000_000);
  const { intervalMs, pointCount } = usageSpans[span];
  expect(points).toHaveLength(pointCount);
  expect(points.reduce((sum, { coveredMs }) => sum + coveredMs, 0)).toBe(seconds * 1000);
  for (const { coveredMs, cpuMs } of points) expect([coveredMs, cpuMs]).toEqual([intervalMs, intervalMs / 50]);
});

test('a coarse point has the sum of what was used and the most of what was held', () => {
  const history = new UsageHistory();
  history.add(usageAt(startMs + 1000, { memoryBytes: 7, receivedBytes: 1 }));
  history.add(usageAt(startMs + 6000, { memoryBytes: 9, receivedBytes: 2 }));
  history.add(usageAt(startMs + 11_000, { memoryBytes: 8, receivedBytes: 3 }));
  const [point] = history.points('two hours', startMs + 12_000);
  expect(point).toEqual(
    usageAt(startMs + 11_000, { coveredMs: 15_000, cpuMs: 300, memoryBytes: 9, receivedBytes: 6, sentBytes: 12 }),
  );
});

test('a pause is a gap in every span, and its time is claimed by no point', () => {
  const history = historyOf(60);
  const resumedMs = startMs + 30 * 60_000;
  history.add(usageAt(resumedMs, { coveredMs: 2000 }));
  for (const span of ['two hours', 'day'] as const) {
    const points = history.points(span, resumedMs);
    expect(points.map(({ coveredMs }) => coveredMs)).toEqual([60_000, 2000]);
  }
  expect(history.points('ten minutes', resumedMs)).toHaveLength(1);
});

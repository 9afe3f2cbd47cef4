import { expect, test } from 'vitest';

import { durationOfMs } from '../duration.ts';
import { WrennError } from '../errors.ts';
import { renderMetrics } from './exposition.ts';
import { OperationTimes } from './operation-times.ts';
import { Metrics } from './registry.ts';

test('operations are timed by what they are and how they end, their stages as the answer tells them', async () => {
  const metrics = new Metrics();
  const handlers = new OperationTimes(metrics, 'x').handlers(
    {
      create: async (_request: { readonly from: string }) => ({
        timings: [{ stage: 'boot', duration: durationOfMs(30) }],
      }),
      pause: async () => {
        throw new WrennError('SANDBOX_NOT_FOUND', 'no such sandbox');
      },
      list: async () => ({}),
    },
    { create: ({ from }: { readonly from: string }) => `from ${from}`, pause: 'pause' },
  );
  await handlers.create({ from: 'disk' });
  await expect(handlers.pause()).rejects.toThrow('no such sandbox');
  await handlers.list();
  const text = renderMetrics(await metrics.collect(), 'prometheus');
  expect(text).toContain('wrenn_x_operation_seconds_count{operation="from disk",outcome="ok"} 1');
  expect(text).toContain('wrenn_x_stage_seconds_bucket{operation="from disk",stage="boot",le="0.05"} 1');
  expect(text).toContain('wrenn_x_stage_seconds_bucket{operation="from disk",stage="boot",le="0.025"} 0');
  expect(text).toContain('wrenn_x_operation_seconds_count{operation="pause",outcome="failed"} 1');
  expect(text).toContain('wrenn_x_operation_failures_total{operation="pause",reason="SANDBOX_NOT_FOUND"} 1');
  expect(text).not.toContain('list');
});

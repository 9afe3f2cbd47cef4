import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { durationOfMs } from '@wrenn/kit/duration';
import { MetricsPointSchema } from '@wrenn/proto/wrenn/v1/metrics';
import { expect, test } from 'vitest';

import { statsOf } from './stats.ts';

test('what was used is told per second of the time that a point covers', () => {
  const point = create(MetricsPointSchema, {
    endTime: timestampFromMs(0),
    covered: durationOfMs(2000),
    cpuTime: durationOfMs(3000),
    memoryBytes: 5n,
    receivedBytes: 1000n,
    sentBytes: 0n,
  });
  expect(statsOf(point)).toEqual({
    endTime: '1970-01-01T00:00:00.000Z',
    coveredMs: 2000,
    cpuPercent: 150,
    memoryBytes: 5,
    diskBytes: 0,
    receivedBytesPerSecond: 500,
    sentBytesPerSecond: 0,
  });
});

test('a point that covers no time divides by none', () => {
  expect(statsOf(create(MetricsPointSchema, { sentBytes: 5n }))).toMatchObject({
    cpuPercent: 0,
    sentBytesPerSecond: 0,
  });
});

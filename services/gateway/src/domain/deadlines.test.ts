import { create } from '@bufbuild/protobuf';
import { durationOfMs } from '@wrenn/kit/duration';
import { ProcessServiceExecRequestSchema } from '@wrenn/proto/wrenn/v1/process';
import { expect, test } from 'vitest';

import { deadlinesMs } from './deadlines.ts';

const execDeadlineMs = (timeoutMs?: number) =>
  deadlinesMs['ProcessService/Exec'](
    create(ProcessServiceExecRequestSchema, timeoutMs === undefined ? {} : { timeout: durationOfMs(timeoutMs) }),
  );

test('an exec gets its timeout and 20 s for the answer', () => {
  expect(execDeadlineMs()).toBe(80_000);
  expect(execDeadlineMs(250)).toBe(20_250);
  expect(execDeadlineMs(24 * 3_600_000)).toBe(24 * 3_600_000 + 20_000);
});

test('a timeout out of bounds still gives a deadline that a timer can keep', () => {
  expect(execDeadlineMs(-5000)).toBe(20_000);
  const forever = create(ProcessServiceExecRequestSchema, { timeout: { seconds: 2n ** 62n, nanos: 0 } });
  expect(deadlinesMs['ProcessService/Exec'](forever)).toBe(24 * 3_600_000 + 20_000);
});

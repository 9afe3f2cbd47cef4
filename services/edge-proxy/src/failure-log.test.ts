import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { recordingLog } from '../test/recording-log.ts';
import { FailureLog } from './failure-log.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('tells of the first failure of a kind at once, and at the end of its time how many there were', () => {
  const { lines, log } = recordingLog();
  const failures = new FailureLog({ log, windowMs: 1000 });
  for (let n = 0; n < 5; n++) {
    failures.add({ code: 'GUEST_TIMEOUT', client: `192.0.2.${n}`, sandbox: 'cl-a', port: 80 });
    failures.add({ code: 'GUEST_TIMEOUT', client: '192.0.2.9', sandbox: 'cl-b', port: 80 });
  }
  expect(lines.map(({ sandbox, client }) => [sandbox, client])).toEqual([
    ['cl-a', '192.0.2.0'],
    ['cl-b', '192.0.2.9'],
  ]);
  vi.advanceTimersByTime(1000);
  expect(lines.slice(2).map(({ code, sandbox, text }) => [code, sandbox, text])).toEqual([
    ['GUEST_TIMEOUT', 'cl-a', 'and 4 more'],
    ['GUEST_TIMEOUT', 'cl-b', 'and 4 more'],
  ]);
  failures.add({ code: 'GUEST_TIMEOUT', client: '192.0.2.1', sandbox: 'cl-a', port: 80 });
  expect(lines).toHaveLength(5);
  failures.close();
});

test('has so many lines for a time and no more, however many sandboxes and kinds there are', () => {
  const { lines, log } = recordingLog();
  const failures = new FailureLog({ log, windowMs: 1000, linesPerWindow: 3 });
  for (let n = 0; n < 1000; n++) failures.add({ code: 'NOT_FOUND', client: '192.0.2.1', sandbox: `cl-${n}`, port: 80 });
  expect(lines).toHaveLength(3);
  vi.advanceTimersByTime(1000);
  expect(lines.slice(3)).toEqual([expect.objectContaining({ level: 'warn', count: 997 })]);
  failures.close();
});

test('says whose failure it was, by its level', () => {
  const { lines, log } = recordingLog();
  const failures = new FailureLog({ log });
  for (const code of ['GUEST_MISBEHAVED', 'CLIENT_LEFT', 'INTERNAL', 'TOKEN_TAKEN'] as const) {
    failures.add({ code, client: '192.0.2.1' });
  }
  expect(lines.map(({ level, code }) => [level, code])).toEqual([
    ['warn', 'GUEST_MISBEHAVED'],
    ['info', 'CLIENT_LEFT'],
    ['error', 'INTERNAL'],
  ]);
  failures.close();
});

import { WrennError } from '@wrenn/kit/errors';
import { expect, test } from 'vitest';

import { MeshClient } from './client.ts';
import { ExitError, UsageError, describeError, exitCodeOf } from './exit-codes.ts';

test.each([
  [new ExitError(7), 7],
  [new UsageError('x'), 2],
  [new WrennError('INVALID_FIELD', 'x'), 2],
  [new WrennError('SERVICE_UNAVAILABLE', 'x'), 69],
  [new WrennError('DEADLINE_EXCEEDED', 'x'), 124],
  [new WrennError('SANDBOX_NOT_FOUND', 'x'), 1],
  [new Error('x'), 1],
  ['a string', 1],
])('%s ends with %i', (error, code) => {
  expect(exitCodeOf(error)).toBe(code);
});

test('a gateway that is not there is told apart from one that cannot serve', async () => {
  using client = new MeshClient('127.0.0.1:1');
  const error: unknown = await client.findId('cl-1').catch((problem: unknown) => problem);
  expect(describeError(error, client.gateway)).toContain('does not answer at 127.0.0.1:1; start it with `wrenn up`');
  const served = new WrennError('SERVICE_UNAVAILABLE', 'the scheduler: no connection');
  expect(describeError(served, client.gateway)).toBe('the scheduler: no connection [SERVICE_UNAVAILABLE]');
});

import { WrennError, hasReason } from '@wrenn/kit/errors';
import { expect, test } from 'vitest';

import { toWrennError } from './postgres.ts';

const failure = (message: string, code?: string) =>
  Object.assign(new Error(message), code === undefined ? {} : { code });

test.each([
  ['connect ECONNREFUSED', 'ECONNREFUSED'],
  ['connect ENOENT /run/x', 'ENOENT'],
  ['connect EMFILE /run/x', 'EMFILE'],
  ['terminating connection due to administrator command', '57P01'],
  ['the database system is starting up', '57P03'],
  ['canceling statement due to statement timeout', '57014'],
  ['too many connections', '53300'],
  ['password authentication failed', '28P01'],
  ['deadlock detected', '40P01'],
  ['relation "sandboxes" does not exist', '42P01'],
  ['Connection terminated unexpectedly', undefined],
  ['Knex: Timeout acquiring a connection. The pool is probably full.', undefined],
])('tells callers to come again later: %s', (message, code) => {
  expect(hasReason(toWrennError(failure(message, code)), 'DATABASE_UNAVAILABLE')).toBe(true);
});

test.each([
  ['duplicate key value violates unique constraint', '23505'],
  ['new row violates check constraint', '23514'],
  ['syntax error', '42601'],
  ['value too long', '22001'],
])('keeps a mistake of ours a mistake: %s', (message, code) => {
  const error = failure(message, code);
  expect(toWrennError(error)).toBe(error);
});

test('leaves a decision made inside a transaction as it is', () => {
  const error = new WrennError('NO_HOST_LEFT', 'full');
  expect(toWrennError(error)).toBe(error);
});

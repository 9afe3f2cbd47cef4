import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { ServerError, Status } from 'nice-grpc-common';
import { expect, test } from 'vitest';

import { inMs } from './deadlines.ts';
import { type Reason, WrennError, codeOf } from './errors.ts';
import { Lanes } from './lanes.ts';
import { translate } from './rpc-errors.ts';
import { serveForTest } from './testkit/serve.ts';

async function failingWith(error: unknown) {
  const server = await serveForTest(LogService, {
    readConsole: async () => {
      throw error;
    },
  });
  const call = () => server.lanes.client('control', LogService).readConsole({}, inMs(5000));
  const caught: unknown = await call().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  await server[Symbol.asyncDispose]();
  if (!(caught instanceof WrennError)) throw new Error('not a WrennError', { cause: caught });
  return caught;
}

test('a reason arrives at the caller with its message and facts', async () => {
  const error = await failingWith(new WrennError('NO_SLOT_LEFT', 'all 7 are taken', { meta: { capacity: '7' } }));
  expect(error).toMatchObject({ reason: 'NO_SLOT_LEFT', message: 'all 7 are taken', meta: { capacity: '7' } });
});

test('every reason survives the wire', async () => {
  let reason: Reason = 'INTERNAL';
  await using server = await serveForTest(LogService, {
    readConsole: async () => {
      throw new WrennError(reason, 'no');
    },
  });
  const client = server.lanes.client('control', LogService);
  for (reason of Object.keys(codeOf) as Reason[]) {
    await expect(client.readConsole({}, inMs(5000))).rejects.toMatchObject({ reason });
  }
});

test('a cause never leaves the process', async () => {
  const cause = new Error('password is hunter2');
  const error = await failingWith(new WrennError('DATABASE_UNAVAILABLE', 'no database', { cause }));
  expect(`${error.message}${JSON.stringify(error.meta)}${String((error.cause as Error).message)}`).not.toMatch(
    /hunter2/,
  );
});

test('an unexpected error is opaque and carries the id that the log names', async () => {
  const error = await failingWith(new TypeError('/etc/secret is not a function'));
  expect(error.reason).toBe('INTERNAL');
  expect(error.message).toMatch(/^internal error [0-9a-f]{12}$/);
  expect(error.meta['id']).toBe(error.message.slice('internal error '.length));
});

test('a status without details gets the reason that follows from its code', async () => {
  const error = await failingWith(new ServerError(Status.UNAVAILABLE, 'later'));
  expect(error).toMatchObject({ reason: 'SERVICE_UNAVAILABLE', message: 'test service: later' });
});

test('a message of a megabyte is cut and its reason still arrives', async () => {
  const error = await failingWith(
    new WrennError('DISK_FULL', 'x'.repeat(1 << 20), { meta: { y: 'y'.repeat(1 << 20) } }),
  );
  expect(error.reason).toBe('DISK_FULL');
  expect(error.message.length).toBeLessThan(5000);
});

test('a text cut inside a character is answered, not thrown over', async () => {
  const half = '\u{1F426}'.slice(0, 1);
  expect(await failingWith(new WrennError('DISK_FULL', `bird ${half}`, { meta: { half } }))).toMatchObject({
    reason: 'DISK_FULL',
    message: 'bird \uFFFD',
    meta: { half: '\uFFFD' },
  });
  expect(await failingWith(new ServerError(Status.INTERNAL, half))).toMatchObject({ reason: 'INTERNAL' });
});

test('a callee that is not there is SERVICE_UNAVAILABLE', async () => {
  const server = await serveForTest(LogService, { readConsole: async () => ({}) });
  const client = server.lanes.client('control', LogService);
  await client.readConsole({}, inMs(5000));
  await server[Symbol.asyncDispose]();
  const lanes = new Lanes(server.address, 'nobody');
  await expect(lanes.client('control', LogService).readConsole({}, inMs(5000))).rejects.toMatchObject({
    reason: 'SERVICE_UNAVAILABLE',
  });
  lanes.close();
});

test('of a callee with reasons of its own, only what is known passes: its field, and facts that are numbers', () => {
  const known = {
    domain: 'peer',
    reasons: { BAD_PATH: 'INVALID_FIELD', OLD: 'REPLAY_GONE' },
    fields: { BAD_PATH: 'path' },
    numbers: ['oldest'],
  } as const;
  expect(translate(known, 'BAD_PATH', { field: 'lie', oldest: 'x' })).toEqual({
    reason: 'INVALID_FIELD',
    meta: { field: 'path' },
  });
  expect(translate(known, 'OLD', { oldest: '17', more: '1' })).toEqual({
    reason: 'REPLAY_GONE',
    meta: { oldest: '17' },
  });
  expect(translate(known, 'toString')).toBeUndefined();
});

import { Client, credentials } from '@grpc/grpc-js';
import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { forever } from 'abort-controller-x';
import { expect, test } from 'vitest';

import { type CallDeadline, Patience, abortsBy, acrossRestart, inMs, isOutOfTime, within } from './deadlines.ts';
import { Lanes } from './lanes.ts';
import { openLog } from './log.ts';
import { type Call, RpcServer, type RpcServerOptions } from './rpc-server.ts';
import { partialHandlers } from './testkit/partial.ts';
import { serveForTest } from './testkit/serve.ts';

// Never answers; settles when its caller loses patience.
const hang = ({ signal }: CallDeadline) => forever(signal);

// Three servers in a row, each calling the next with a cap of a minute; the last does `last`.
async function threeHops(last: (call: Call) => Promise<unknown>) {
  const seen: Call[] = [];
  let running = 0;
  const counted = async <T>(call: Call, work: () => Promise<T>): Promise<T> => {
    seen.push(call);
    running++;
    try {
      return await work();
    } finally {
      running--;
    }
  };
  const third = await serveForTest(LogService, {
    readConsole: async (_request, call) => {
      await counted(call, () => last(call));
      return {};
    },
  });
  const hop = (next: Lanes) =>
    serveForTest(LogService, {
      readConsole: (_request, call) =>
        counted(call, () => next.client('control', LogService).readConsole({}, within(call, 60_000))),
    });
  const second = await hop(third.lanes);
  const first = await hop(second.lanes);
  return {
    seen,
    running: () => running,
    client: first.lanes.client('control', LogService),
    async [Symbol.asyncDispose]() {
      for (const server of [first, second, third]) await server[Symbol.asyncDispose]();
    },
  };
}

test('a deadline travels over three hops and no hop lengthens it', async () => {
  await using hops = await threeHops(async () => undefined);
  const call = inMs(5000);
  await hops.client.readConsole({}, call);
  expect(hops.seen).toHaveLength(3);
  for (const { deadlineAtMs } of hops.seen) {
    // A timeout is relative on the wire, so each hop sees it later by the time the message took.
    expect(deadlineAtMs).toBeGreaterThan(call.deadlineAtMs! - 100);
    expect(deadlineAtMs).toBeLessThan(call.deadlineAtMs! + 2000);
  }
});

test('a hop may shorten a deadline', () => {
  const caller = { signal: new AbortController().signal, deadlineAtMs: Date.now() + 60_000 };
  expect(within(caller, 100).deadlineAtMs).toBeLessThan(Date.now() + 1000);
  expect(within({ ...caller, deadlineAtMs: 5 }, 100).deadlineAtMs).toBe(5);
});

test('who leaves with time to spare has not run out of it; who leaves a little before its deadline has', () => {
  const leaving = (leftMs: number) => ({ signal: AbortSignal.abort(), deadlineAtMs: Date.now() + leftMs });
  expect([60_000, 2000, 100, 0, -1000].map((leftMs) => isOutOfTime(leaving(leftMs)))).toEqual([
    false,
    false,
    true,
    true,
    true,
  ]);
});

test('a call across a restart waits for half of the time it has, at most, and never for long', () => {
  expect(acrossRestart(inMs(60_000)).awaitPeerMs).toBe(5000);
  expect(acrossRestart({}).awaitPeerMs).toBe(5000);
  expect(acrossRestart(inMs(1000)).awaitPeerMs).toBeLessThanOrEqual(500);
  expect(acrossRestart(inMs(-1000)).awaitPeerMs).toBe(0);
});

test('a passed deadline is DEADLINE_EXCEEDED at the caller and ends every handler', async () => {
  await using hops = await threeHops(hang);
  const startMs = Date.now();
  await expect(hops.client.readConsole({}, inMs(2000))).rejects.toMatchObject({ reason: 'DEADLINE_EXCEEDED' });
  expect(Date.now() - startMs).toBeLessThan(5000);
  await expect.poll(() => hops.running()).toBe(0);
  expect(hops.seen).toHaveLength(3);
});

test('a caller that leaves ends every handler behind it', async () => {
  await using hops = await threeHops(hang);
  const leave = new AbortController();
  const call = hops.client.readConsole({}, inMs(30_000, leave.signal));
  await expect.poll(() => hops.seen.length).toBe(3);
  leave.abort();
  await expect(call).rejects.toMatchObject({ reason: 'CANCELLED' });
  await expect.poll(() => hops.running()).toBe(0);
});

test('no call is sent when no time is left', async () => {
  await using hops = await threeHops(hang);
  await expect(hops.client.readConsole({}, { deadlineAtMs: Date.now() - 1 })).rejects.toMatchObject({
    reason: 'DEADLINE_EXCEEDED',
  });
  expect(hops.seen).toEqual([]);
});

test('a unary call without a deadline is refused before it leaves', async () => {
  await using hops = await threeHops(hang);
  await expect(hops.client.readConsole({})).rejects.toMatchObject({
    reason: 'INTERNAL',
    message: expect.stringContaining('without a deadline'),
  });
  expect(hops.seen).toEqual([]);
});

// A server as foreign clients see it: bare grpc-js, no deadline unless given.
async function foreign(options: Omit<RpcServerOptions, 'log'>, handle: (call: Call) => Promise<void>) {
  const server = new RpcServer({ log: openLog('test', 'silent'), drainMs: 100, ...options });
  server.add(
    LogService,
    partialHandlers(LogService, {
      readConsole: async (_request, call) => {
        await handle(call);
        return {};
      },
    }),
  );
  const port = await server.listen('127.0.0.1:0');
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  const call = (bytes = Buffer.alloc(0), deadline?: Date) =>
    new Promise<number>((resolve) => {
      const pass = (value: Buffer) => value;
      const path = '/wrenn.v1.LogService/ReadConsole';
      client.makeUnaryRequest(path, pass, pass, bytes, { ...(deadline && { deadline }) }, (error) =>
        resolve(error?.code ?? 0),
      );
    });
  return {
    call,
    async [Symbol.asyncDispose]() {
      client.close();
      await server.close();
    },
  };
}

const DEADLINE_EXCEEDED = 4;

test('a call without a deadline gets the default of the server', async () => {
  await using server = await foreign({ defaultDeadlineMs: 150 }, hang);
  expect(await server.call()).toBe(DEADLINE_EXCEEDED);
});

test('a default may be set per rpc, and may depend on the request', async () => {
  await using fixed = await foreign({ deadlinesMs: { 'LogService/ReadConsole': 150 } }, hang);
  expect(await fixed.call()).toBe(DEADLINE_EXCEEDED);
  const ofRequest = ({ sandboxId }: { sandboxId: string }) => Number(sandboxId);
  let granted = 0;
  await using dependent = await foreign({ deadlinesMs: { 'LogService/ReadConsole': ofRequest } }, async (call) => {
    granted = call.deadlineAtMs - Date.now();
  });
  expect(await dependent.call(Buffer.from([10, 4, ...Buffer.from('5000')]))).toBe(0);
  expect(granted).toBeGreaterThan(3000);
  expect(granted).toBeLessThanOrEqual(5000);
});

test('the deadline a client brings wins over the default and aborts the handler', async () => {
  let seen: Call | undefined;
  await using server = await foreign({ defaultDeadlineMs: 60_000 }, (call) => {
    seen = call;
    return hang(call);
  });
  expect(await server.call(undefined, new Date(Date.now() + 200))).toBe(DEADLINE_EXCEEDED);
  await expect.poll(() => seen?.signal.aborted).toBe(true);
});

test('a client cannot forge the deadline that a handler sees', async () => {
  await using server = await serveForTest(LogService, {
    readConsole: async (_request, call) => ({ console: Buffer.from(String(call.deadlineAtMs)) }),
  });
  const { Metadata } = await import('nice-grpc');
  const options = { ...inMs(1000), metadata: Metadata({ 'wrenn-deadline-at-ms': '9999999999999' }) };
  const { console: text } = await server.lanes.client('control', LogService).readConsole({}, options);
  expect(Number(Buffer.from(text).toString())).toBeLessThan(Date.now() + 10_000);
});

test('the deadline of a stream aborts its handler though the reader stopped reading', async () => {
  let ended = '';
  await using server = await serveForTest(
    ProcessService,
    partialHandlers(ProcessService, {
      start: async function* start(_request, { signal }) {
        try {
          const stdout = Buffer.alloc(32_768);
          for (;;) {
            signal.throwIfAborted();
            yield { event: { event: { case: 'stdout' as const, value: stdout } } };
          }
        } finally {
          ended = signal.aborted ? 'aborted' : 'ended';
        }
      },
    }),
  );
  const stream = server.lanes.client('interactive', ProcessService).start({}, inMs(2000));
  const reader = stream[Symbol.asyncIterator]();
  await reader.next();
  await expect.poll(() => ended).toBe('aborted');
  await expect(reader.return?.()).rejects.toMatchObject({ reason: 'DEADLINE_EXCEEDED' });
});

test('a stream without a deadline lives as long as its reader', async () => {
  let seen: Call | undefined;
  await using server = await serveForTest(
    ProcessService,
    partialHandlers(ProcessService, {
      start: async function* start(_request, call) {
        seen = call;
        yield {};
        await hang(call);
      },
    }),
  );
  for await (const _ of server.lanes.client('interactive', ProcessService).start({})) break;
  expect(seen?.deadlineAtMs).toBe(Infinity);
  await expect.poll(() => seen?.signal.aborted).toBe(true);
});

test('a signal that watches the clock itself is known by the deadline it keeps, and one made of it is not', () => {
  const atMs = Date.now() + 60_000;
  const patience = new Patience(atMs, undefined);
  const { signal } = patience;
  expect([abortsBy(signal, atMs), abortsBy(signal, atMs + 1), abortsBy(signal, atMs - 1)]).toEqual([true, true, false]);
  expect(abortsBy(AbortSignal.any([signal]), atMs)).toBe(false);
  expect(abortsBy(undefined, Infinity)).toBe(false);
  patience.end();
});

test('patience is over by its deadline, and not by a caller who leaves', async () => {
  const caller = new AbortController();
  const left = new Patience(Date.now() + 60_000, caller.signal);
  caller.abort();
  expect([left.signal.aborted, left.isOver]).toEqual([true, false]);
  left.end();
  const late = new Patience(Date.now() + 20, undefined);
  await new Promise((resolve) => late.signal.addEventListener('abort', resolve));
  expect(late.isOver).toBe(true);
  const ended = new Patience(Date.now() + 20, undefined);
  ended.end();
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(ended.signal.aborted).toBe(false);
});

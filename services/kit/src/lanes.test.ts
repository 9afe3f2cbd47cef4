import { type AddressInfo, createServer } from 'node:net';

import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { describe, expect, test } from 'vitest';

import { type OutboundCall, inMs, within } from './deadlines.ts';
import { type LaneName, Lanes } from './lanes.ts';
import { openLog } from './log.ts';
import { RpcServer } from './rpc-server.ts';
import { runProgram } from './run-program.ts';
import { eventually } from './testkit/eventually.ts';
import { partialHandlers } from './testkit/partial.ts';
import { tempDir } from './testkit/temp-dir.ts';

const lanes: readonly LaneName[] = ['control', 'interactive', 'bulk'];

// Answers with the caller's address and port: two callers share a connection only if theirs are equal.
async function peerServer(at = '127.0.0.1:0') {
  const server = new RpcServer({ log: openLog('test', 'silent'), drainMs: 100 });
  server.add(
    LogService,
    partialHandlers(LogService, { readConsole: async (_request, { peer }) => ({ console: Buffer.from(peer) }) }),
  );
  const port = await server.listen(at);
  return { port, [Symbol.asyncDispose]: () => server.close() };
}

async function peerOf(from: Lanes, lane: LaneName, call: OutboundCall = inMs(5000)): Promise<string> {
  const { console: peer } = await from.client(lane, LogService).readConsole({}, call);
  return Buffer.from(peer).toString();
}

async function establishedTo(port: number): Promise<string[]> {
  const table = await runProgram('ss', ['-tnH', 'state', 'established', `dport = :${port}`]);
  return table.split('\n').filter((line) => line !== '');
}

test('control, interactive and bulk to one server are three connections', async () => {
  await using server = await peerServer();
  const one = new Lanes(`127.0.0.1:${server.port}`, 'test');
  const peers = await Promise.all(lanes.map((lane) => peerOf(one, lane)));
  expect(new Set(peers).size).toBe(3);
  expect(await establishedTo(server.port)).toHaveLength(3);
  one.close();
});

test('calls of one lane share its connection', async () => {
  await using server = await peerServer();
  const one = new Lanes(`127.0.0.1:${server.port}`, 'test');
  const peers = await Promise.all(Array.from({ length: 20 }, () => peerOf(one, 'interactive')));
  expect(new Set(peers).size).toBe(1);
  expect(await establishedTo(server.port)).toHaveLength(1);
  one.close();
});

test('two callers in one process never share a connection', async () => {
  await using server = await peerServer();
  const one = new Lanes(`127.0.0.1:${server.port}`, 'test');
  const two = new Lanes(`127.0.0.1:${server.port}`, 'test');
  const peers = await Promise.all([one, two].flatMap((each) => lanes.map((lane) => peerOf(each, lane))));
  expect(new Set(peers).size).toBe(6);
  one.close();
  two.close();
});

test('a lane that is opened connects ahead of its first call, which takes that connection', async () => {
  await using server = await peerServer();
  const one = new Lanes(`127.0.0.1:${server.port}`, 'test');
  one.open('interactive');
  const [connection] = await eventually('it is connected', async () => {
    const all = await establishedTo(server.port);
    return all.length === 1 && all;
  });
  expect(connection).toContain(await peerOf(one, 'interactive'));
  one.close();
});

test('no lane connects before its first call, and close leaves no connection', async () => {
  await using server = await peerServer();
  const one = new Lanes(`127.0.0.1:${server.port}`, 'test');
  for (const lane of lanes) one.client(lane, LogService);
  expect(await establishedTo(server.port)).toEqual([]);
  await peerOf(one, 'bulk');
  expect(await establishedTo(server.port)).toHaveLength(1);
  one.close();
  await expect.poll(() => establishedTo(server.port)).toEqual([]);
});

// Accepts connections and never says a word, like a process that is stopped.
async function muteServer() {
  const mute = createServer((socket) => socket.resume());
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
  const { port } = mute.address() as AddressInfo;
  return { port, [Symbol.asyncDispose]: () => new Promise<void>((resolve) => mute.close(() => resolve())) };
}

test('a callee that accepts and says nothing costs the deadline, not more', async () => {
  await using mute = await muteServer();
  const one = new Lanes(`127.0.0.1:${mute.port}`, 'mute');
  const startMs = Date.now();
  await expect(one.client('control', LogService).readConsole({}, inMs(300))).rejects.toMatchObject({
    reason: 'DEADLINE_EXCEEDED',
  });
  expect(Date.now() - startMs).toBeLessThan(3000);
  one.close();
});

test('a callee that is silent for longer than it is given is away, whatever time the caller has', async () => {
  await using mute = await muteServer();
  const one = new Lanes(`127.0.0.1:${mute.port}`, 'mute');
  const { signal } = new AbortController();
  const call = (capMs: number, callerMs: number) =>
    one.client('control', LogService).readConsole({}, within({ signal, deadlineAtMs: Date.now() + callerMs }, capMs));
  const silence = { reason: 'SERVICE_UNAVAILABLE', message: 'mute did not answer in time' };
  await Promise.all([
    expect(call(300, 60_000)).rejects.toMatchObject(silence),
    expect(call(60_000, 300)).rejects.toMatchObject({ reason: 'DEADLINE_EXCEEDED' }),
  ]);
  one.close();
});

test('a caller may give up connecting sooner than its deadline', async () => {
  await using mute = await muteServer();
  const one = new Lanes(`127.0.0.1:${mute.port}`, 'mute', undefined, 100);
  await expect(one.client('control', LogService).readConsole({}, inMs(20_000))).rejects.toMatchObject({
    reason: 'SERVICE_UNAVAILABLE',
  });
  one.close();
});

describe('a callee that goes and comes', () => {
  // Unlike a port, a path is nobody else's meanwhile.
  const place = async () => {
    const dir = await tempDir();
    const path = `unix:${dir.path}/s`;
    const lanes = new Lanes(path, 'test');
    const dispose = async () => {
      lanes.close();
      await dir[Symbol.asyncDispose]();
    };
    return { path, lanes, [Symbol.asyncDispose]: dispose };
  };
  const missed = (call: Promise<unknown>) =>
    expect(call).rejects.toMatchObject({
      reason: 'SERVICE_UNAVAILABLE',
      message: expect.stringContaining('No connection established') as string,
    });
  const patient = (awaitPeerMs: number, signal?: AbortSignal) => ({ ...inMs(60_000, signal), awaitPeerMs });

  test('is found again soon', async () => {
    await using at = await place();
    const first = await peerServer(at.path);
    await peerOf(at.lanes, 'control');
    await first[Symbol.asyncDispose]();
    await expect(peerOf(at.lanes, 'control')).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
    await using _again = await peerServer(at.path);
    await eventually('the callee answers', async () => (await peerOf(at.lanes, 'control')) !== undefined);
  });

  test('serves the very next call once it is back, however often it was missed before', async () => {
    await using at = await place();
    for (let i = 0; i < 5; i++) await missed(peerOf(at.lanes, 'control'));
    await using _again = await peerServer(at.path);
    await peerOf(at.lanes, 'control');
  });

  test('fails a call soon while it stays away', async () => {
    await using at = await place();
    await missed(peerOf(at.lanes, 'control'));
    const startedAtMs = performance.now();
    await missed(peerOf(at.lanes, 'control'));
    expect(performance.now() - startedAtMs).toBeLessThan(3000);
  });

  test('gets the calls that wait for it, the first of a lane and later ones', async () => {
    await using at = await place();
    const first = peerOf(at.lanes, 'control', patient(30_000));
    await missed(peerOf(at.lanes, 'interactive'));
    const later = peerOf(at.lanes, 'interactive', patient(30_000));
    await using _there = await peerServer(at.path);
    await Promise.all([first, later]);
  });

  test('is waited for no longer than asked, and not for a caller who leaves', async () => {
    await using at = await place();
    await missed(peerOf(at.lanes, 'control', patient(600)));
    const leave = new AbortController();
    const left = expect(peerOf(at.lanes, 'control', patient(30_000, leave.signal))).rejects.toMatchObject({
      reason: 'CANCELLED',
    });
    leave.abort();
    await left;
  });
});

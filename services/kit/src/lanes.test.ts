import { type AddressInfo, createServer } from 'node:net';

import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { expect, test } from 'vitest';

import { inMs } from './deadlines.ts';
import { type LaneName, Lanes } from './lanes.ts';
import { openLog } from './log.ts';
import { RpcServer } from './rpc-server.ts';
import { runProgram } from './run-program.ts';
import { eventually } from './testkit/eventually.ts';

const lanes: readonly LaneName[] = ['control', 'interactive', 'bulk'];

// Answers with the caller's address and port: two callers share a connection only if theirs are equal.
async function peerServer(atPort = 0) {
  const server = new RpcServer({ log: openLog('test', 'silent'), drainMs: 100 });
  server.add(LogService, { readConsole: async (_request, { peer }) => ({ console: Buffer.from(peer) }) });
  const port = await server.listen(`127.0.0.1:${atPort}`);
  return { port, [Symbol.asyncDispose]: () => server.close() };
}

async function peerOf(from: Lanes, lane: LaneName): Promise<string> {
  const { console: peer } = await from.client(lane, LogService).readConsole({}, inMs(5000));
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

test('a caller may give up connecting sooner than its deadline', async () => {
  await using mute = await muteServer();
  const one = new Lanes(`127.0.0.1:${mute.port}`, 'mute', undefined, 100);
  await expect(one.client('control', LogService).readConsole({}, inMs(20_000))).rejects.toMatchObject({
    reason: 'SERVICE_UNAVAILABLE',
  });
  one.close();
});

test('a callee that comes back is found again soon', async () => {
  const first = await peerServer();
  const one = new Lanes(`127.0.0.1:${first.port}`, 'test');
  await peerOf(one, 'control');
  await first[Symbol.asyncDispose]();
  await expect(peerOf(one, 'control')).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
  await using _again = await peerServer(first.port);
  await eventually('the callee answers', () => peerOf(one, 'control'), 3000);
  one.close();
});

test('a callee that is back serves the very next call, however often it was missed before', async () => {
  const first = await peerServer();
  const { port } = first;
  await first[Symbol.asyncDispose]();
  const one = new Lanes(`127.0.0.1:${port}`, 'test');
  for (let i = 0; i < 5; i++) await expect(peerOf(one, 'control')).rejects.toThrow('No connection established');
  await using _again = await peerServer(port);
  expect(await peerOf(one, 'control')).toContain('127.0.0.1');
  one.close();
});

test('a callee that stays away fails a call within half a second', async () => {
  const one = new Lanes('127.0.0.1:1', 'test');
  await expect(peerOf(one, 'control')).rejects.toThrow('No connection established');
  const startedAtMs = performance.now();
  await expect(peerOf(one, 'control')).rejects.toThrow('No connection established');
  expect(performance.now() - startedAtMs).toBeLessThan(1000);
  one.close();
});

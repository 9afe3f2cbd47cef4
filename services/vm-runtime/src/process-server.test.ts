import { create } from '@bufbuild/protobuf';
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import { type TestServer, serveForTest } from '@wrenn/kit/testkit/serve';
import { ProcessService, ProcessServiceExecRequestSchema } from '@wrenn/proto/wrenn/v1/process';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { FakeAgent } from '../test/fakes.ts';
import type { RunningVm } from './domain/vm.ts';
import { execTimeoutMs, processHandlers } from './process-server.ts';

const sandboxId = newSandboxId();
const process = { command: 'true' };
let agent: FakeAgent;
let server: TestServer;

beforeEach(async () => {
  agent = new FakeAgent();
  const serving = async (id: string) => {
    if (id !== sandboxId) throw new WrennError('SANDBOX_NOT_FOUND', 'not here');
    return { agent } as unknown as RunningVm;
  };
  server = await serveForTest(ProcessService, processHandlers({ serving }));
});
afterEach(() => server[Symbol.asyncDispose]());

const client = () => server.lanes.client('interactive', ProcessService);

test.each([
  ['sandbox_id', { sandboxId: 'sb-1', process }],
  ['process', { sandboxId }],
  ['process.command', { sandboxId, process: { command: '' } }],
  ['process.command', { sandboxId, process: { command: 'a\0b' } }],
  ['process.command', { sandboxId, process: { command: 'a', args: ['x\0'] } }],
  ['process.args', { sandboxId, process: { command: 'a', args: Array.from({ length: 1025 }, () => '') } }],
  ['process.args', { sandboxId, process: { command: 'a', args: ['x'.repeat(131_072)] } }],
  ['process.env', { sandboxId, process: { command: 'a', env: { '1A': 'x' } } }],
  ['process.env', { sandboxId, process: { command: 'a', env: { A: 'x'.repeat(65_536) } } }],
  ['process.cwd', { sandboxId, process: { command: 'a', cwd: 'relative' } }],
  ['process.user', { sandboxId, process: { command: 'a', user: 'a:b' } }],
  ['stdin', { sandboxId, process, stdin: new Uint8Array(2 * 1024 * 1024 + 1) }],
  ['timeout', { sandboxId, process, timeout: { seconds: 0n, nanos: 0 } }],
  ['timeout', { sandboxId, process, timeout: { seconds: 86_401n, nanos: 0 } }],
  ['max_output_bytes', { sandboxId, process, maxOutputBytes: 3n * 1024n * 1024n + 1n }],
])('exec names the field that is wrong: %s (case %#)', async (field, request) => {
  const outcome = client().exec(create(ProcessServiceExecRequestSchema, request), inMs(5000));
  await expect(outcome).rejects.toMatchObject({ reason: 'INVALID_FIELD', meta: { field } });
});

test.each([
  ['tag', () => client().start({ sandboxId, process, tag: 'a b' })],
  ['process', () => client().connect({ sandboxId })],
  ['process.tag', () => client().connect({ sandboxId, process: { selector: { case: 'tag', value: '' } } })],
  ['process.pid', () => client().connect({ sandboxId, process: { selector: { case: 'pid', value: 0 } } })],
])('a stream names the field that is wrong: %s', async (field, open) => {
  await expect(Array.fromAsync<unknown>(open())).rejects.toMatchObject({ reason: 'INVALID_FIELD', meta: { field } });
});

test('refuses signals that do not exist and input that is empty', async () => {
  const selector = { selector: { case: 'pid' as const, value: 7 } };
  for (const signal of [0, 65]) {
    const refused = client().signal({ sandboxId, process: selector, signal }, inMs(5000));
    await expect(refused).rejects.toMatchObject({ reason: 'INVALID_FIELD', meta: { field: 'signal' } });
  }
  const refused = client().sendInput({ sandboxId, process: selector, data: new Uint8Array() }, inMs(5000));
  await expect(refused).rejects.toMatchObject({ reason: 'INVALID_FIELD', meta: { field: 'data' } });
});

test('streams started first, output in order, exited last', async () => {
  agent.script = [
    { kind: 'stdout', sequence: 1n, data: Buffer.from([0, 255, 10]) },
    { kind: 'stderr', sequence: 2n, data: Buffer.from('e') },
    { kind: 'exited', sequence: 3n, exitCode: 2, signal: 0 },
  ];
  const events = await Array.fromAsync(client().start({ sandboxId, process }));
  expect(events.map(({ event }) => event?.event.case)).toEqual(['started', 'stdout', 'stderr', 'exited']);
  expect(events.map(({ event }) => event?.sequence)).toEqual([0n, 1n, 2n, 3n]);
  expect(events[1]?.event?.event.value).toEqual(Buffer.from([0, 255, 10]));
  expect(events[3]?.event?.event.value).toMatchObject({ exitCode: 2, signal: 0 });
});

test('a reconnect asks for what came behind the last event that was seen, also behind none', async () => {
  const selector = { selector: { case: 'pid' as const, value: 7 } };
  for (const seen of [{}, { afterSequence: 0n }, { afterSequence: 41n }]) {
    await Array.fromAsync(client().connect({ sandboxId, process: selector, ...seen }));
  }
  expect(agent.connectedAfter).toEqual([undefined, 0n, 41n]);
});

test('exec of a sandbox that is elsewhere is not found', async () => {
  const outcome = client().exec({ sandboxId: newSandboxId(), process }, inMs(5000));
  await expect(outcome).rejects.toMatchObject({ reason: 'SANDBOX_NOT_FOUND' });
});

test('a client that leaves an exec kills the command', async () => {
  agent.isEndless = true;
  const leaving = new AbortController();
  const outcome = client().exec({ sandboxId, process }, inMs(5000, leaving.signal));
  setImmediate(() => leaving.abort());
  await expect(outcome).rejects.toMatchObject({ reason: 'CANCELLED' });
});

test('an exec without a timeout gets a minute', () => {
  expect(execTimeoutMs({})).toBe(60_000);
  expect(execTimeoutMs(create(ProcessServiceExecRequestSchema, { timeout: { seconds: 2n, nanos: 5e8 } }))).toBe(2500);
});

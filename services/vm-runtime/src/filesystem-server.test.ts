import { connect } from 'node:http2';
import { connect as connectSocket } from 'node:net';

import { type MessageInitShape, create, toBinary } from '@bufbuild/protobuf';
import { systemClock } from '@wrenn/kit/clock';
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { type TestServer, serveForTest } from '@wrenn/kit/testkit/serve';
import { EventType, FileType as AgentType, Filesystem } from '@wrenn/proto/filesystem/filesystem';
import {
  FileChangeType,
  FileType,
  FilesystemService,
  FilesystemServiceWriteRequestSchema,
  UrlOperation,
} from '@wrenn/proto/wrenn/v1/filesystem';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { type StandIn, entry, startAgent } from '../test/stand-in-agent.ts';
import { AgentConnection } from './adapters/agent-connection.ts';
import { GrpcGuestFiles } from './adapters/grpc-guest-files.ts';
import type { GuestBytes } from './domain/guest-files.ts';
import type { RunningVm } from './domain/vm.ts';
import { filesystemHandlers, vmFiles } from './filesystem-server.ts';

const sandboxId = newSandboxId();
const path = '/tmp/file';
const soon = () => inMs(5000);
let cleanup: AsyncDisposableStack;
beforeEach(() => void (cleanup = new AsyncDisposableStack()));
afterEach(() => cleanup.disposeAsync());

// The handlers over real gRPC, in front of what stands in for a guest's agent.
async function serve(standIn: StandIn = {}, bytes?: GuestBytes): Promise<TestServer> {
  const agent = cleanup.use(await startAgent(standIn));
  const connection = new AgentConnection(agent.address, 'secret');
  cleanup.defer(() => connection.close());
  const serving = async (id: string) => {
    if (id !== sandboxId) throw new WrennError('SANDBOX_NOT_FOUND', 'not here');
    const files = new GrpcGuestFiles(connection, 'interactive');
    return { agent: { files }, facts: { accessToken: 'secret' } } as unknown as RunningVm;
  };
  const parts = vmFiles({ serving }, 'http://edge', systemClock);
  const all = bytes ? { ...parts, bytes: async () => bytes } : parts;
  return cleanup.use(await serveForTest(FilesystemService, filesystemHandlers(all)));
}

const clientOf = (server: TestServer) => server.lanes.client('bulk', FilesystemService);
const agentServing = (handlers: object): StandIn => ({ rpc: (add) => add(Filesystem, handlers) });

test.each([
  ['sandbox_id', { sandboxId: 'sb-1', path }],
  ['path', { sandboxId, path: '' }],
  ['path', { sandboxId, path: 'a\0b' }],
  ['path', { sandboxId, path: 'é'.repeat(2048) }],
  ['user', { sandboxId, path, user: 'a:b' }],
])('names the field that is wrong: %s (case %#)', async (field, request) => {
  const client = clientOf(await serve());
  const invalid = { reason: 'INVALID_FIELD', meta: { field } };
  await expect(client.stat(request, soon())).rejects.toMatchObject(invalid);
  await expect(client.list(request, soon())).rejects.toMatchObject(invalid);
  await expect(client.makeDir(request, soon())).rejects.toMatchObject(invalid);
  await expect(client.remove(request, soon())).rejects.toMatchObject(invalid);
  await expect(Array.fromAsync<unknown>(client.watch(request))).rejects.toMatchObject(invalid);
  await expect(client.signUrl({ ...request, operation: UrlOperation.READ }, soon())).rejects.toMatchObject(invalid);
});

test('refuses a depth, a move and a grant that are out of bounds', async () => {
  const client = clientOf(await serve());
  const refused = (call: Promise<unknown>, field: string) =>
    expect(call).rejects.toMatchObject({ reason: 'INVALID_FIELD', meta: { field } });
  await refused(client.list({ sandboxId, path, depth: 65 }, soon()), 'depth');
  await refused(client.move({ sandboxId, source: '', destination: path }, soon()), 'source');
  await refused(client.move({ sandboxId, source: path, destination: 'x\0' }, soon()), 'destination');
  await refused(client.signUrl({ sandboxId, path }, soon()), 'operation');
  const grant = { sandboxId, path, operation: UrlOperation.WRITE };
  for (const seconds of [0n, 86_401n]) {
    await refused(client.signUrl({ ...grant, ttl: { seconds, nanos: 0 } }, soon()), 'ttl');
  }
});

test('asks the agent in the name of the user, with the token, and gives its answer', async () => {
  const seen: unknown[] = [];
  const stat = async (request: { path: string }, call: { metadata: { get(key: string): unknown } }) => {
    seen.push(request.path, call.metadata.get('authorization'), call.metadata.get('x-access-token'));
    const modifiedTime = { seconds: 1_700_000_000n, nanos: 5 };
    return { entry: { ...entry, mode: 0o104_755, symlinkTarget: '/x', modifiedTime } };
  };
  const client = clientOf(await serve(agentServing({ stat })));
  const answer = await client.stat({ sandboxId, path, user: 'nobody' }, soon());
  expect(seen).toEqual([path, `Basic ${Buffer.from('nobody:').toString('base64')}`, 'secret']);
  expect(answer.entry).toMatchObject({
    name: 'file',
    path: '/dir/file',
    type: FileType.FILE,
    sizeBytes: 5n,
    mode: 0o4755,
    owner: 'root',
    symlinkTarget: '/x',
    modifiedAt: { seconds: 1_700_000_000n, nanos: 5 },
  });
});

test.each([
  ['a size below nothing', { size: -1n }, { sizeBytes: 0n }],
  ['a time before all time', { modifiedTime: { seconds: -(2n ** 62n), nanos: -1 } }, { modifiedAt: { nanos: 0 } }],
  [
    'a time after all time',
    { modifiedTime: { seconds: 2n ** 62n, nanos: 2e9 } },
    { modifiedAt: { seconds: 253_402_300_799n } },
  ],
  ['a type that is none', { type: 77 as AgentType }, { type: FileType.UNSPECIFIED }],
])('brings %s within bounds', async (_what, lie, told) => {
  const client = clientOf(await serve(agentServing({ stat: async () => ({ entry: { ...entry, ...lie } }) })));
  expect((await client.stat({ sandboxId, path }, soon())).entry).toMatchObject(told);
});

test.each([
  ['no entry', {}],
  ['a path without end', { entry: { ...entry, path: 'x'.repeat(20_000) } }],
  ['an owner without end', { entry: { ...entry, owner: 'x'.repeat(2000) } }],
])('takes %s for misbehaviour', async (_what, answer) => {
  const client = clientOf(await serve(agentServing({ stat: async () => answer })));
  await expect(client.stat({ sandboxId, path }, soon())).rejects.toMatchObject({ reason: 'AGENT_MISBEHAVED' });
});

test.each([
  ['more than an answer holds', 3000, 500],
  ['more than a message holds', 3000, 700],
])('refuses a listing of %s', async (_what, count, bytes) => {
  const entries = Array.from({ length: count }, (_, n) => ({
    ...entry,
    name: 'n',
    path: `${n}${'x'.repeat(2 * bytes)}`,
  }));
  const client = clientOf(await serve(agentServing({ listDir: async () => ({ entries }) })));
  await expect(client.list({ sandboxId, path }, soon())).rejects.toMatchObject({ reason: 'TOO_MANY_ENTRIES' });
});

test('an agent that fails or is gone is told apart from one that refuses', async () => {
  const failing = clientOf(
    await serve(
      agentServing({
        stat: async () => {
          throw new Error('oops');
        },
      }),
    ),
  );
  await expect(failing.stat({ sandboxId, path }, soon())).rejects.toMatchObject({ reason: 'AGENT_MISBEHAVED' });
  const silent = clientOf(await serve(agentServing({ stat: () => new Promise(() => undefined) })));
  await expect(silent.stat({ sandboxId, path }, inMs(100))).rejects.toMatchObject({ reason: 'DEADLINE_EXCEEDED' });
});

test('tells changes in order once the watch stands, and ends the watch with its client', async () => {
  let isLeft = false;
  const watchDir = async function* watchDir(request: { recursive: boolean }, call: { signal: AbortSignal }) {
    expect(request.recursive).toBe(true);
    const left = new Promise<void>((resolve) => call.signal.addEventListener('abort', () => resolve()));
    yield { event: { case: 'start' as const, value: {} } };
    yield { event: { case: 'keepalive' as const, value: {} } };
    for (const type of [EventType.CREATE, EventType.CHMOD, 99]) {
      yield { event: { case: 'filesystem' as const, value: { name: 'a/b', type } } };
    }
    yield { event: { case: 'filesystem' as const, value: { name: 'c', type: EventType.REMOVE } } };
    await left;
    isLeft = true;
  };
  const client = clientOf(await serve(agentServing({ watchDir })));
  const leave = new AbortController();
  const events = client.watch({ sandboxId, path, isRecursive: true }, { signal: leave.signal })[Symbol.asyncIterator]();
  const parts = [];
  for (let n = 0; n < 4; n++) parts.push((await events.next()).value?.part);
  expect(parts).toMatchObject([
    { case: 'started' },
    { case: 'change', value: { path: 'a/b', type: FileChangeType.CREATED } },
    { case: 'change', value: { path: 'a/b', type: FileChangeType.MODE_CHANGED } },
    { case: 'change', value: { path: 'c', type: FileChangeType.REMOVED } },
  ]);
  leave.abort();
  await expect(events.next()).rejects.toMatchObject({ reason: 'CANCELLED' });
  await eventually('the agent sees it', () => isLeft);
});

test('the main thread sends bytes elsewhere', async () => {
  const client = clientOf(await serve());
  await expect(Array.fromAsync(client.read({ sandboxId, path }))).rejects.toMatchObject({ reason: 'UNIMPLEMENTED' });
});

test('signs an URL that leads through the edge', async () => {
  const client = clientOf(await serve());
  const { url, expiresAt } = await client.signUrl({ sandboxId, path, operation: UrlOperation.READ }, soon());
  expect(url).toMatch(new RegExp(`^http://edge/proxy/${sandboxId}/49983/files\\?path=%2Ftmp%2Ffile&signature=v1_`));
  expect(url).toContain(`signature_expiration=${expiresAt?.seconds}`);
  expect(Math.abs(Number(expiresAt?.seconds) - (Date.now() / 1000 + 900))).toBeLessThan(10);
});

// What a Write brought to the guest, and how it ended there.
class Receiver implements GuestBytes {
  received = '';
  mode = -1;
  end = '';

  // oxlint-disable-next-line require-yield -- nothing here reads.
  async *read(): AsyncGenerator<never> {
    throw new Error('not read');
  }

  async write(_place: unknown, mode: number, data: AsyncIterable<Uint8Array>) {
    this.mode = mode;
    try {
      for await (const piece of data) this.received += Buffer.from(piece).toString();
      this.end = 'whole';
    } catch (error) {
      this.end = 'cut';
      throw error;
    }
    return { ...entry, type: 'file' as const, sizeBytes: 5n, modifiedAt: { seconds: 0n, nanos: 0 }, symlinkTarget: '' };
  }
}

const start = { part: { case: 'start' as const, value: { sandboxId, path, user: '', mode: 0o600 } } };
const data = (text: string | Uint8Array) => ({ part: { case: 'data' as const, value: Buffer.from(text) } });
const finish = { part: { case: 'finish' as const, value: {} } };
async function* messages(...all: MessageInitShape<typeof FilesystemServiceWriteRequestSchema>[]) {
  yield* all;
}

test('a write hands its bytes on in order and answers with the file', async () => {
  const receiver = new Receiver();
  const client = clientOf(await serve({}, receiver));
  const answer = await client.write(messages(start, data('ab'), data(''), data('c'), finish), soon());
  expect(answer.entry?.path).toBe('/dir/file');
  expect([receiver.received, receiver.mode, receiver.end]).toEqual(['abc', 0o600, 'whole']);
});

const startWith = (value: object) => ({ part: { case: 'start' as const, value: { ...start.part.value, ...value } } });
test.each([
  ['start', [data('x')]],
  ['start', []],
  ['data', [start, start]],
  ['data', [start, { part: { case: undefined } }]],
  ['finish', [start]],
  ['finish', [start, data('x')]],
  ['data', [start, data(new Uint8Array(2 * 2 ** 20 + 1))]],
  ['mode', [startWith({ mode: 0o1000 })]],
  ['path', [startWith({ path: '' })]],
  ['sandbox_id', [startWith({ sandboxId: 'x' })]],
])('a write that breaks the rules is refused and never whole: %s (case %#)', async (field, sent) => {
  const receiver = new Receiver();
  const client = clientOf(await serve({}, receiver));
  const all = sent.map((message) => create(FilesystemServiceWriteRequestSchema, message as never));
  await expect(client.write(messages(...all), soon())).rejects.toMatchObject({
    reason: 'INVALID_FIELD',
    meta: { field },
  });
  expect(receiver.end).not.toBe('whole');
});

test.each(['leaves', 'runs out of time'])('a write whose client %s is never whole', async (how) => {
  const receiver = new Receiver();
  const client = clientOf(await serve({}, receiver));
  const leave = new AbortController();
  async function* slow() {
    yield start;
    yield data('half');
    await eventually('the first half is there', () => receiver.received === 'half');
    if (how === 'leaves') leave.abort();
    await new Promise((resolve) => leave.signal.addEventListener('abort', resolve));
  }
  const writing = client.write(slow(), how === 'leaves' ? inMs(5000, leave.signal) : inMs(300));
  const reason = how === 'leaves' ? 'CANCELLED' : 'DEADLINE_EXCEEDED';
  await expect(writing).rejects.toMatchObject({ reason });
  leave.abort();
  await eventually('the write has ended', () => receiver.end !== '');
  expect([receiver.received, receiver.end]).toEqual(['half', 'cut']);
});

test('a message that is none, in mid-upload, does not end the file', async () => {
  const receiver = new Receiver();
  const server = await serve({}, receiver);
  const session = connect('http://agent', {
    createConnection: () => connectSocket(server.address.slice('unix:'.length)),
  });
  const stream = session.request({
    ':method': 'POST',
    ':path': '/wrenn.v1.FilesystemService/Write',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  const framed = (bytes: Uint8Array) => {
    const head = Buffer.alloc(5);
    head.writeUInt32BE(bytes.length, 1);
    return Buffer.concat([head, bytes]);
  };
  const wire = (message: object) =>
    framed(toBinary(FilesystemServiceWriteRequestSchema, create(FilesystemServiceWriteRequestSchema, message)));
  const status = new Promise<unknown>((resolve) => {
    stream.on('trailers', (trailers) => resolve(trailers['grpc-status']));
    stream.on('response', (headers) => headers['grpc-status'] !== undefined && resolve(headers['grpc-status']));
  });
  stream.on('error', () => undefined).resume();
  stream.write(Buffer.concat([wire(start), wire(data('half'))]));
  await eventually('the first half is there', () => receiver.received === 'half');
  stream.end(Buffer.concat([framed(Buffer.from('ffffffff', 'hex')), wire(finish)]));
  expect(String(await status)).toBe('3');
  await eventually('the write has ended', () => receiver.end !== '');
  expect(receiver.end).toBe('cut');
  session.destroy();
});

test('a sandbox that is elsewhere is not found', async () => {
  const client = clientOf(await serve());
  const elsewhere = { sandboxId: newSandboxId(), path };
  await expect(client.stat(elsewhere, soon())).rejects.toMatchObject({ reason: 'SANDBOX_NOT_FOUND' });
});

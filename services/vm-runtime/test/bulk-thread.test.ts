// The real thread, over real gRPC, in front of stand-in agents.
import { readFile, readlink, readdir } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';

import type { MessageInitShape } from '@bufbuild/protobuf';
import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import { Lanes } from '@wrenn/kit/lanes';
import { openLog } from '@wrenn/kit/log';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { ServerReflection } from '@wrenn/proto/grpc/reflection/v1/reflection';
import { FilesystemService, type FilesystemServiceWriteRequestSchema } from '@wrenn/proto/wrenn/v1/filesystem';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { BulkThread, startBulkWorker } from '../src/adapters/bulk-thread.ts';
import { startAgent } from './stand-in-agent.ts';

const settings = { listen: '127.0.0.1:0', logLevel: 'silent', env: {} } as const;
const log = openLog('test', 'silent');
type WriteMessage = MessageInitShape<typeof FilesystemServiceWriteRequestSchema>;
const path = '/tmp/file';
let cleanup: AsyncDisposableStack;
beforeEach(() => void (cleanup = new AsyncDisposableStack()));
afterEach(() => cleanup.disposeAsync());

async function startThread() {
  const workers: Worker[] = [];
  const thread = new BulkThread(settings, log, (given) => {
    const worker = startBulkWorker(given);
    workers.push(worker);
    return worker;
  });
  cleanup.defer(() => thread.close());
  const port = await thread.start();
  const lanes = new Lanes(`127.0.0.1:${port}`, 'the bulk thread');
  cleanup.defer(() => lanes.close());
  return { thread, port, workers, lanes, files: lanes.client('bulk', FilesystemService) };
}

// An agent that sends a file of any size, and takes one.
const agentWith = async (content: Buffer) =>
  cleanup.use(
    await startAgent({
      http: (request, answer) => {
        if (request.method === 'GET') answer.writeHead(200, { 'Content-Length': content.length }).end(content);
        else request.resume().on('end', () => answer.end('{}'));
      },
    }),
  );

async function bytesOf(stream: AsyncIterable<{ part: { case?: string | undefined; value?: unknown } }>) {
  const pieces: Buffer[] = [];
  for await (const { part } of stream) if (part.case === 'data') pieces.push(part.value as Buffer);
  return Buffer.concat(pieces);
}

const niceness = (stat: string) => Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);

async function* upload(sandboxId: string, pieces: Iterable<Uint8Array>): AsyncGenerator<WriteMessage> {
  yield { part: { case: 'start' as const, value: { sandboxId, path, user: '', mode: 0 } } };
  for (const value of pieces) yield { part: { case: 'data' as const, value } };
  yield { part: { case: 'finish' as const, value: {} } };
}

test('leaves the processor to the main thread when both want it', async () => {
  await startThread();
  const threads = await Promise.all(
    (await readdir('/proc/self/task')).map(async (id) => {
      // After the name, which may hold anything: state first, niceness the 17th.
      const stat = await readFile(`/proc/self/task/${id}/stat`, 'utf8');
      return { name: stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')')), niceness: niceness(stat) };
    }),
  );
  expect(threads.filter(({ name }) => name.includes('bulk')).map((thread) => thread.niceness)).toEqual([10]);
  expect(niceness(await readFile('/proc/self/stat', 'utf8'))).toBeLessThan(10);
});

test('serves files of the sandboxes it was told of, and of no others', async () => {
  const { thread, files } = await startThread();
  const content = Buffer.from('hello');
  const agent = await agentWith(content);
  const sandboxId = newSandboxId();
  await expect(bytesOf(files.read({ sandboxId, path }))).rejects.toMatchObject({ reason: 'SANDBOX_NOT_FOUND' });
  // Told and asked at once, as when a create has just been answered.
  thread.add(sandboxId, agent.address, 'token');
  expect(await bytesOf(files.read({ sandboxId, path }))).toEqual(content);
  const { entry } = await files.write(upload(sandboxId, [content, content]), inMs(10_000));
  expect(entry?.path).toBe('/dir/file');
  expect((await files.stat({ sandboxId, path }, inMs(5000))).entry?.name).toBe('file');
  thread.remove(sandboxId, 'VMM_DIED');
  await expect(bytesOf(files.read({ sandboxId, path }))).rejects.toMatchObject({ reason: 'SANDBOX_NOT_FOUND' });
});

test('a sandbox that ends cuts its transfers at once, and no others', async () => {
  const { thread, files } = await startThread();
  const [ending, staying] = [newSandboxId(), newSandboxId()];
  for (const id of [ending, staying]) {
    const agent = await agentWith(Buffer.alloc(100 * 2 ** 20));
    thread.add(id, agent.address, 'token');
  }
  const readOf = (sandboxId: string) => files.read({ sandboxId, path })[Symbol.asyncIterator]();
  const [cut, whole] = [readOf(ending), readOf(staying)];
  for (const stream of [cut, whole]) await stream.next();
  thread.remove(ending, 'VMM_DIED');
  const drain = async (stream: typeof cut) => {
    for (let next = await stream.next(); !next.done; next = await stream.next());
  };
  await expect(drain(cut)).rejects.toMatchObject({ reason: 'VMM_DIED' });
  await drain(whole);
});

test('transfers of a sandbox that is to be paused are waited for, and what is cut then says so', async () => {
  const { thread, files } = await startThread();
  const sandboxId = newSandboxId();
  const rest = Promise.withResolvers<void>();
  const agent = cleanup.use(
    await startAgent({
      http: (_request, answer) => {
        answer.writeHead(200, { 'Content-Length': 8 }).write('half');
        void rest.promise.then(() => answer.end(' all'));
      },
    }),
  );
  thread.add(sandboxId, agent.address, 'token');
  const [stream, cut] = [files.read({ sandboxId, path }), files.read({ sandboxId, path })];
  const other = cut[Symbol.asyncIterator]();
  const whole = bytesOf(stream);
  await other.next();
  expect(await thread.drain(sandboxId, 50)).toBeGreaterThan(0);
  thread.remove(sandboxId, 'SANDBOX_PAUSED');
  await expect(whole).rejects.toMatchObject({ reason: 'SANDBOX_PAUSED' });
  await expect(drainOf(other)).rejects.toMatchObject({ reason: 'SANDBOX_PAUSED' });
  thread.add(sandboxId, agent.address, 'token');
  const last = bytesOf(files.read({ sandboxId, path }));
  const drained = thread.drain(sandboxId, 60_000);
  rest.resolve();
  expect(await last).toEqual(Buffer.from('half all'));
  expect(await drained).toBe(0);
});

async function drainOf(stream: AsyncIterator<unknown>): Promise<void> {
  for (let next = await stream.next(); !next.done; next = await stream.next());
}

test('a thread that crashes is started anew on its port and knows its sandboxes', async () => {
  const { thread, port, workers, files } = await startThread();
  const agent = await agentWith(Buffer.from('still here'));
  const [kept, gone] = [newSandboxId(), newSandboxId()];
  for (const id of [kept, gone]) thread.add(id, agent.address, 'token');
  for (const crash of [() => workers[0]!.terminate(), () => workers[1]!.terminate()]) {
    const count = workers.length;
    await crash();
    thread.remove(gone, 'VMM_DIED');
    await eventually('it serves again', async () => {
      expect((await bytesOf(files.read({ sandboxId: kept, path }))).toString()).toBe('still here');
      return workers.length > count;
    });
  }
  await expect(bytesOf(files.read({ sandboxId: gone, path }))).rejects.toMatchObject({ reason: 'SANDBOX_NOT_FOUND' });
  expect(port).toBeGreaterThan(0);
});

test('a thread that cannot listen fails the start', async () => {
  const { port } = await startThread();
  const second = new BulkThread({ ...settings, listen: `127.0.0.1:${port}` }, log);
  await expect(second.start()).rejects.toThrow();
});

test('its loop is not this one: it serves while this thread is busy, from a thread of this process', async () => {
  const { thread, files, port } = await startThread();
  const agent = await agentWith(Buffer.alloc(1000));
  const sandboxId = newSandboxId();
  thread.add(sandboxId, agent.address, 'token');
  await bytesOf(files.read({ sandboxId, path }));
  const names = await Promise.all(
    (await readdir('/proc/self/task')).map((id) => readFile(`/proc/self/task/${id}/comm`, 'utf8').catch(() => '')),
  );
  expect(names.length).toBeGreaterThan(1);
  expect(await listensHere(port)).toBe(true);
});

test('tells by reflection what it serves', async () => {
  const { lanes } = await startThread();
  async function* ask() {
    yield { messageRequest: { case: 'listServices' as const, value: '' } };
  }
  const answers = await Array.fromAsync(lanes.client('control', ServerReflection).serverReflectionInfo(ask()));
  const listed = answers[0]?.messageResponse;
  const names = listed?.case === 'listServicesResponse' ? listed.value.service.map(({ name }) => name) : [];
  expect(names).toContain('wrenn.v1.FilesystemService');
});

// Whether a listening socket on this port belongs to this process.
async function listensHere(port: number): Promise<boolean> {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const rows = (await readFile('/proc/net/tcp', 'utf8')).split('\n').map((row) => row.trim().split(/\s+/));
  const inode = rows.find((row) => row[1]?.endsWith(`:${hex}`) && row[3] === '0A')?.[9];
  const fds = await readdir('/proc/self/fd');
  const targets = await Promise.all(fds.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')));
  return targets.includes(`socket:[${inode}]`);
}

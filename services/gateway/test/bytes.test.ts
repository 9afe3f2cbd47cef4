// Read and Write of files: apart from all else, whole or not at all, as fast as the slower side.
import { type MessageInitShape } from '@bufbuild/protobuf';
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { FilesystemService, type FilesystemServiceWriteRequestSchema } from '@wrenn/proto/wrenn/v1/filesystem';
import { PortService } from '@wrenn/proto/wrenn/v1/port';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { expect, test } from 'vitest';

import { type Listening, serveTcp, startGateway } from './mesh-fixture.ts';

type WriteMessage = MessageInitShape<typeof FilesystemServiceWriteRequestSchema>;
const id = newSandboxId();
const path = '/tmp/file';
const start: WriteMessage = { part: { case: 'start', value: { sandboxId: id, path } } };
const finish: WriteMessage = { part: { case: 'finish', value: {} } };
const data = (value: Uint8Array): WriteMessage => ({ part: { case: 'data', value } });
async function* sending(...messages: WriteMessage[]) {
  yield* messages;
}

const schedulerOf = (where: { host?: Listening; bulk?: Listening }) =>
  serveTcp((serve) =>
    serve(SchedulerService, {
      resolveSandbox: async () => ({
        hostAddress: where.host?.address ?? '127.0.0.1:1',
        hostBulkAddress: where.bulk?.address ?? '',
      }),
    }),
  );

// A host's bulk address that notes what a write brought and how it ended.
function serveReceiver() {
  const seen = { cases: [] as string[], byteCount: 0, hasEnded: false, isCut: false };
  const server = serveTcp((serve) =>
    serve(FilesystemService, {
      async write(messages, call) {
        call.signal.addEventListener('abort', () => (seen.isCut = true));
        for await (const { part } of messages) {
          if (part.case === 'data') seen.byteCount += part.value.length;
          if (part.case !== 'data' || seen.cases.at(-1) !== 'data') seen.cases.push(part.case ?? 'none');
        }
        seen.hasEnded = true;
        return { entry: { path: 'written' } };
      },
    }),
  );
  return { seen, server };
}

test('bytes go to the bulk address of the host, everything else to the other', async () => {
  const calls: string[] = [];
  const note = (name: string) => async () => {
    calls.push(name);
    return {};
  };
  await using host = await serveTcp((serve) => {
    serve(FilesystemService, { stat: note('main stat'), write: note('main write') });
    serve(ProcessService, { list: note('main list') });
    serve(PortService, {
      async *watch() {
        calls.push('main ports');
        yield { change: { case: 'opened', value: { port: 80 } } };
      },
    });
  });
  await using bulk = await serveTcp((serve) =>
    serve(FilesystemService, {
      stat: note('bulk stat'),
      write: note('bulk write'),
      async *read() {
        calls.push('bulk read');
        yield { part: { case: 'data', value: Buffer.from('x') } };
      },
    }),
  );
  await using scheduler = await schedulerOf({ host, bulk });
  await using gateway = await startGateway(scheduler.address);
  const files = gateway.lanes.client('bulk', FilesystemService);
  await files.stat({ sandboxId: id, path }, inMs(5000));
  expect(await Array.fromAsync(files.read({ sandboxId: id, path }))).toHaveLength(1);
  await files.write(sending(start, finish), inMs(5000));
  await gateway.lanes.client('interactive', ProcessService).list({ sandboxId: id }, inMs(5000));
  const ports = await Array.fromAsync(gateway.lanes.client('interactive', PortService).watch({ sandboxId: id }));
  expect(ports.map(({ change }) => change.value?.port)).toEqual([80]);
  expect(calls).toEqual(['main stat', 'bulk read', 'bulk write', 'main list', 'main ports']);
});

test('bytes never travel in the connection of a keystroke, also to one address', async () => {
  await using host = await serveTcp((serve) => {
    serve(FilesystemService, { write: async () => ({}) });
    serve(ProcessService, { list: async () => ({}) });
  });
  await using scheduler = await schedulerOf({ host, bulk: host });
  await using gateway = await startGateway(scheduler.address);
  await gateway.lanes.client('interactive', ProcessService).list({ sandboxId: id }, inMs(5000));
  expect(await connectionsTo(host.port)).toBe(1);
  await gateway.lanes.client('bulk', FilesystemService).write(sending(start, finish), inMs(5000));
  expect(await connectionsTo(host.port)).toBe(2);
});

test('a write is forwarded message by message, and its answer comes back', async () => {
  const { seen, server } = serveReceiver();
  await using bulk = await server;
  await using scheduler = await schedulerOf({ bulk });
  await using gateway = await startGateway(scheduler.address);
  const piece = Buffer.alloc(100_000);
  const all = [start, ...Array.from({ length: 50 }, () => data(piece)), finish];
  const { entry } = await gateway.lanes.client('bulk', FilesystemService).write(sending(...all), inMs(10_000));
  expect(entry?.path).toBe('written');
  expect(seen).toMatchObject({ cases: ['start', 'data', 'finish'], byteCount: 5_000_000 });
});

test('a client that leaves in mid-write never finishes it at the host', async () => {
  const { seen, server } = serveReceiver();
  await using bulk = await server;
  await using scheduler = await schedulerOf({ bulk });
  await using gateway = await startGateway(scheduler.address);
  const leave = new AbortController();
  async function* slowly() {
    yield start;
    yield data(Buffer.from('half'));
    await new Promise((resolve) => leave.signal.addEventListener('abort', resolve));
  }
  const writing = gateway.lanes.client('bulk', FilesystemService).write(slowly(), inMs(10_000, leave.signal));
  const settled = expect(writing).rejects.toMatchObject({ reason: 'CANCELLED' });
  await eventually('the host has the first half', () => seen.byteCount === 4);
  leave.abort();
  await settled;
  await eventually('the host sees it', () => seen.isCut || seen.hasEnded);
  expect(seen.cases).not.toContain('finish');
});

test('a host that refuses in mid-write ends it at once, with its reason', async () => {
  await using bulk = await serveTcp((serve) =>
    serve(FilesystemService, {
      async write(messages) {
        for await (const { part } of messages) if (part.case === 'data') break;
        throw new WrennError('GUEST_DISK_FULL', 'the disk is full');
      },
    }),
  );
  await using scheduler = await schedulerOf({ bulk });
  await using gateway = await startGateway(scheduler.address);
  async function* endless() {
    yield start;
    for (;;) yield data(Buffer.alloc(10_000));
  }
  const writing = gateway.lanes.client('bulk', FilesystemService).write(endless(), inMs(10_000));
  await expect(writing).rejects.toMatchObject({ reason: 'GUEST_DISK_FULL', message: 'the disk is full' });
});

test('a host that does not take bytes slows the client that sends them', async () => {
  const gate = Promise.withResolvers<void>();
  let receivedBytes = 0;
  await using bulk = await serveTcp((serve) =>
    serve(FilesystemService, {
      async write(messages) {
        for await (const { part } of messages) {
          await gate.promise;
          if (part.case === 'data') receivedBytes += part.value.length;
        }
        return {};
      },
    }),
  );
  await using scheduler = await schedulerOf({ bulk });
  await using gateway = await startGateway(scheduler.address);
  const total = 400;
  let sentCount = 0;
  async function* all() {
    yield start;
    for (; sentCount < total; sentCount++) yield data(Buffer.alloc(256 * 1024));
    yield finish;
  }
  const writing = gateway.lanes.client('bulk', FilesystemService).write(all(), inMs(30_000));
  let beforeCount = -1;
  await eventually('the client stands still', () => {
    const stands = sentCount === beforeCount && sentCount > 0;
    beforeCount = sentCount;
    return stands;
  });
  expect(sentCount).toBeLessThan(total / 2);
  gate.resolve();
  await writing;
  expect(receivedBytes).toBe(total * 256 * 1024);
});

test('a write that does not say where it goes is refused, and a host without a bulk address is unavailable', async () => {
  await using scheduler = await schedulerOf({});
  await using gateway = await startGateway(scheduler.address);
  const files = gateway.lanes.client('bulk', FilesystemService);
  const invalid = (field: string) => ({ reason: 'INVALID_FIELD', meta: { field } });
  await expect(files.write(sending(), inMs(5000))).rejects.toMatchObject(invalid('start'));
  await expect(files.write(sending(finish), inMs(5000))).rejects.toMatchObject(invalid('start'));
  const nowhere: WriteMessage = { part: { case: 'start', value: { sandboxId: 'x', path } } };
  await expect(files.write(sending(nowhere), inMs(5000))).rejects.toMatchObject(invalid('sandbox_id'));
  await expect(files.write(sending(start, finish), inMs(5000))).rejects.toMatchObject({
    reason: 'SERVICE_UNAVAILABLE',
  });
});

async function connectionsTo(port: number): Promise<number> {
  const lines = await runProgram('ss', ['-Htn', 'state', 'established', `( sport = :${port} )`]);
  return lines.split('\n').filter((line) => line.trim() !== '').length;
}

import { promisify } from 'node:util';

import {
  Client,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  credentials,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { create, toBinary } from '@bufbuild/protobuf';
import { durationOfMs } from '@wrenn/kit/duration';
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import type { Call } from '@wrenn/kit/rpc-server';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { FilesystemService } from '@wrenn/proto/wrenn/v1/filesystem';
import { HostService } from '@wrenn/proto/wrenn/v1/host';
import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { MetricsService } from '@wrenn/proto/wrenn/v1/metrics';
import {
  ProcessService,
  ProcessServiceConnectRequestSchema,
  ProcessServiceExecRequestSchema,
} from '@wrenn/proto/wrenn/v1/process';
import {
  SandboxSchema,
  SandboxService,
  SandboxServiceCreateRequestSchema,
  SandboxServiceGetRequestSchema,
} from '@wrenn/proto/wrenn/v1/sandbox';
import { SnapshotService } from '@wrenn/proto/wrenn/v1/snapshot';
import { expect, test } from 'vitest';

import { callWithoutDeadline, openCall, serveTcp, startGateway } from './mesh-fixture.ts';

const id = newSandboxId();
const plain = (fields: { no: number; data: Uint8Array }[] = []) => fields.map(({ no, data }) => [no, [...data]]);
// Number 999, holding three bytes.
const unknownField = { no: 999, wireType: 2, data: Uint8Array.of(3, 1, 2, 3) };

test('fields that the gateway does not know survive in both directions', async () => {
  let seen: unknown;
  await using scheduler = await serveTcp((serve) =>
    serve(SandboxService, {
      get: async (request) => {
        seen = plain(request.$unknown);
        return { sandbox: Object.assign(create(SandboxSchema, { id }), { $unknown: [unknownField] }) };
      },
    }),
  );
  await using gateway = await startGateway(scheduler.address);
  const request = Object.assign(create(SandboxServiceGetRequestSchema, { sandboxId: id }), {
    $unknown: [unknownField],
  });
  const { sandbox } = await gateway.lanes.client('control', SandboxService).get(request, inMs(5000));
  expect(seen).toEqual([[999, [3, 1, 2, 3]]]);
  expect(sandbox?.id).toBe(id);
  expect(plain(sandbox?.$unknown)).toEqual([[999, [3, 1, 2, 3]]]);
});

// No encoder writes fields in this order, or a default.
const odd = Buffer.concat([
  Buffer.from([0x22, 2, 0x08, 5]), // timeout { seconds: 5 }
  Buffer.from([0x0a, id.length]),
  Buffer.from(id), // sandbox_id
  Buffer.from([0x28, 0]), // max_output_bytes: 0
]);

test('a request reaches the vm-runtime as the bytes that its client sent', async () => {
  const seen: Buffer[] = [];
  const asIs = (bytes: Buffer) => bytes;
  const ways = { requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs };
  const exec = { path: '/wrenn.v1.ProcessService/Exec', requestStream: false, responseStream: false, ...ways };
  const server = new Server();
  const handler = (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) => {
    seen.push(call.request);
    answer(null, odd);
  };
  server.addService({ exec }, { exec: handler });
  const port = await promisify(server.bindAsync.bind(server))('127.0.0.1:0', ServerCredentials.createInsecure());
  await using scheduler = await serveTcp((serve) =>
    serve(SchedulerService, { resolveSandbox: async () => ({ hostAddress: `127.0.0.1:${port}` }) }),
  );
  await using gateway = await startGateway(scheduler.address);
  const client = new Client(gateway.address, credentials.createInsecure());
  const answer = await new Promise((resolve, reject) => {
    client.makeUnaryRequest(exec.path, asIs, asIs, odd, (error, bytes) => (error ? reject(error) : resolve(bytes)));
  });
  expect(seen).toEqual([odd]);
  expect(answer).toEqual(odd);
  client.close();
  server.forceShutdown();
});

test('every unary method of the public services is forwarded to the service that implements it', async () => {
  const called: string[] = [];
  const record = (name: string) => async () => {
    called.push(name);
    return {};
  };
  const unary = (prefix: string, names: readonly string[]) =>
    Object.fromEntries(names.map((name) => [name, record(`${prefix}.${name}`)]));
  const sandboxMethods = [
    ...(['create', 'get', 'list', 'pause', 'resume', 'fork', 'destroy', 'setTimeout', 'ping'] as const),
  ];
  const snapshotMethods = ['create', 'get', 'list', 'delete'] as const;
  const processMethods = ['exec', 'resize', 'sendInput', 'closeStdin', 'signal', 'list'] as const;
  const fileMethods = ['stat', 'list', 'makeDir', 'move', 'remove', 'signUrl'] as const;
  await using host = await serveTcp((serve) => {
    serve(ProcessService, unary('process', processMethods));
    serve(LogService, unary('log', ['readConsole']));
    serve(MetricsService, unary('metrics', ['read']));
    serve(FilesystemService, unary('files', fileMethods));
  });
  await using scheduler = await serveTcp((serve) => {
    serve(SandboxService, unary('sandbox', sandboxMethods));
    serve(SnapshotService, unary('snapshot', snapshotMethods));
    serve(HostService, unary('host', ['list']));
    serve(SchedulerService, { resolveSandbox: async () => ({ hostAddress: host.address }) });
  });
  await using gateway = await startGateway(scheduler.address);
  const snapshots = gateway.lanes.client('control', SnapshotService);
  const sandboxes = gateway.lanes.client('control', SandboxService);
  const processes = gateway.lanes.client('control', ProcessService);
  for (const name of sandboxMethods) await sandboxes[name]({ sandboxId: id }, inMs(5000));
  for (const name of snapshotMethods) await snapshots[name]({ sandboxId: id, name: 'a' }, inMs(5000));
  await gateway.lanes.client('control', HostService).list({}, inMs(5000));
  for (const name of processMethods) await processes[name]({ sandboxId: id }, inMs(5000));
  await gateway.lanes.client('control', LogService).readConsole({ sandboxId: id }, inMs(5000));
  await gateway.lanes.client('control', MetricsService).read({ sandboxId: id }, inMs(5000));
  const files = gateway.lanes.client('control', FilesystemService);
  for (const name of fileMethods) await files[name]({ sandboxId: id }, inMs(5000));
  expect(called).toEqual([
    ...sandboxMethods.map((name) => `sandbox.${name}`),
    ...snapshotMethods.map((name) => `snapshot.${name}`),
    'host.list',
    ...processMethods.map((name) => `process.${name}`),
    'log.readConsole',
    'metrics.read',
    ...fileMethods.map((name) => `files.${name}`),
  ]);
});

test('an error keeps its reason, message and metadata across the gateway', async () => {
  const refusal = new WrennError('NO_HOST_LEFT', 'no host has 2 GiB left', { meta: { asked: '2147483648' } });
  await using host = await serveTcp((serve) =>
    serve(ProcessService, {
      // oxlint-disable-next-line require-yield -- it fails before its first event.
      async *start() {
        throw new WrennError('COMMAND_NOT_FOUND', 'no such command: nope', { meta: { command: 'nope' } });
      },
    }),
  );
  await using scheduler = await serveTcp((serve) => {
    serve(SchedulerService, { resolveSandbox: async () => ({ hostAddress: host.address }) });
    serve(SandboxService, {
      create: async () => {
        throw refusal;
      },
    });
  });
  await using gateway = await startGateway(scheduler.address);
  await expect(
    gateway.lanes.client('control', SandboxService).create({ template: 'debian' }, inMs(5000)),
  ).rejects.toMatchObject({ reason: 'NO_HOST_LEFT', message: refusal.message, meta: refusal.meta });
  const stream = gateway.lanes.client('control', ProcessService).start({ sandboxId: id });
  await expect(Array.fromAsync(stream)).rejects.toMatchObject({
    reason: 'COMMAND_NOT_FOUND',
    meta: { command: 'nope' },
  });
});

test('a malformed sandbox id is refused before anything is forwarded', async () => {
  let callCount = 0;
  const count = async () => {
    callCount += 1;
    return {};
  };
  await using scheduler = await serveTcp((serve) => {
    serve(SandboxService, { get: count, destroy: count });
    serve(SchedulerService, { resolveSandbox: async () => ({ ...(await count()), hostAddress: '127.0.0.1:1' }) });
  });
  await using gateway = await startGateway(scheduler.address);
  const invalid = { reason: 'INVALID_FIELD', meta: { field: 'sandbox_id' } };
  for (const sandboxId of ['', 'cl-short', `${id}x`, `${id}\n`]) {
    const sandboxes = gateway.lanes.client('control', SandboxService);
    const processes = gateway.lanes.client('control', ProcessService);
    await expect(sandboxes.get({ sandboxId }, inMs(5000))).rejects.toMatchObject(invalid);
    await expect(processes.exec({ sandboxId }, inMs(5000))).rejects.toMatchObject(invalid);
    await expect(Array.fromAsync(processes.start({ sandboxId }))).rejects.toMatchObject(invalid);
  }
  expect(callCount).toBe(0);
});

test('the deadline of the caller is the deadline of the callee', async () => {
  const remainingMs: number[] = [];
  await using host = await serveTcp((serve) =>
    serve(ProcessService, {
      exec: async (_request, call) => {
        remainingMs.push(call.deadlineAtMs - Date.now());
        return {};
      },
    }),
  );
  await using scheduler = await serveTcp((serve) => {
    serve(SchedulerService, { resolveSandbox: async () => ({ hostAddress: host.address }) });
    serve(SandboxService, {
      create: async (_request, call) => {
        remainingMs.push(call.deadlineAtMs - Date.now());
        return {};
      },
    });
  });
  await using gateway = await startGateway(scheduler.address);
  await gateway.lanes.client('control', ProcessService).exec({ sandboxId: id }, inMs(4000));
  const exec = toBinary(
    ProcessServiceExecRequestSchema,
    create(ProcessServiceExecRequestSchema, { sandboxId: id, timeout: durationOfMs(5000) }),
  );
  const createRequest = toBinary(SandboxServiceCreateRequestSchema, create(SandboxServiceCreateRequestSchema));
  expect(await callWithoutDeadline(gateway.address, '/wrenn.v1.ProcessService/Exec', exec)).toBe(0);
  expect(await callWithoutDeadline(gateway.address, '/wrenn.v1.SandboxService/Create', createRequest)).toBe(0);
  const [asked = 0, granted = 0, create120s = 0] = remainingMs;
  expect(asked).toBeGreaterThan(2000);
  expect(asked).toBeLessThanOrEqual(4001);
  expect(granted).toBeGreaterThan(23_000);
  expect(granted).toBeLessThanOrEqual(25_001);
  expect(create120s).toBeGreaterThan(118_000);
  expect(create120s).toBeLessThanOrEqual(120_001);
});

test('a callee that never answers costs the caller its deadline, not more', async () => {
  let aborted: Promise<unknown> | undefined;
  const hang = async (_request: unknown, { signal }: Call) => {
    aborted = new Promise((resolve) => signal.addEventListener('abort', resolve));
    await aborted;
    return {};
  };
  await using scheduler = await serveTcp((serve) => serve(SandboxService, { create: hang }));
  await using gateway = await startGateway(scheduler.address);
  const startedMs = Date.now();
  const call = gateway.lanes.client('control', SandboxService).create({ template: 'debian' }, inMs(300));
  await expect(call).rejects.toMatchObject({ reason: 'DEADLINE_EXCEEDED' });
  expect(Date.now() - startedMs).toBeLessThan(5000);
  await aborted;
});

test('a client that leaves a stream ends the call at the vm-runtime', async () => {
  let isLeft = false;
  await using host = await serveTcp((serve) =>
    serve(ProcessService, {
      async *connect(_request, { signal }) {
        signal.addEventListener('abort', () => (isLeft = true));
        yield { event: { event: { case: 'started', value: { pid: 7 } } } };
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      },
    }),
  );
  await using scheduler = await serveTcp((serve) =>
    serve(SchedulerService, { resolveSandbox: async () => ({ hostAddress: host.address }) }),
  );
  await using gateway = await startGateway(scheduler.address);
  const leave = new AbortController();
  const events = gateway.lanes
    .client('interactive', ProcessService)
    .connect({ sandboxId: id }, { signal: leave.signal })
    [Symbol.asyncIterator]();
  expect((await events.next()).value?.event?.event).toMatchObject({ case: 'started' });
  expect(isLeft).toBe(false);
  leave.abort();
  await expect(events.next()).rejects.toMatchObject({ reason: 'CANCELLED' });
  await eventually('the vm-runtime sees the client leave', () => isLeft);
});

test('a client whose connection breaks off ends its stream at the vm-runtime', async () => {
  let isLeft = false;
  let isRunning = false;
  await using host = await serveTcp((serve) =>
    serve(ProcessService, {
      async *connect(_request, { signal }) {
        isRunning = true;
        yield { event: { event: { case: 'started', value: { pid: 7 } } } };
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        isLeft = true;
      },
    }),
  );
  await using scheduler = await serveTcp((serve) =>
    serve(SchedulerService, { resolveSandbox: async () => ({ hostAddress: host.address }) }),
  );
  await using gateway = await startGateway(scheduler.address);
  const request = create(ProcessServiceConnectRequestSchema, { sandboxId: id });
  const message = toBinary(ProcessServiceConnectRequestSchema, request);
  const vanish = openCall(gateway.address, '/wrenn.v1.ProcessService/Connect', message);
  await eventually('the stream runs', () => isRunning);
  vanish();
  await eventually('the vm-runtime sees the client vanish', () => isLeft);
});

test('a client that leaves a unary call ends it at the vm-runtime', async () => {
  let isLeft = false;
  let isRunning = false;
  await using host = await serveTcp((serve) =>
    serve(ProcessService, {
      exec: async (_request, { signal }) => {
        isRunning = true;
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        isLeft = true;
        return {};
      },
    }),
  );
  await using scheduler = await serveTcp((serve) =>
    serve(SchedulerService, { resolveSandbox: async () => ({ hostAddress: host.address }) }),
  );
  await using gateway = await startGateway(scheduler.address);
  const leave = new AbortController();
  const processes = gateway.lanes.client('interactive', ProcessService);
  const call = processes.exec({ sandboxId: id }, inMs(20_000, leave.signal));
  const settled = expect(call).rejects.toMatchObject({ reason: 'CANCELLED' });
  await eventually('the command runs', () => isRunning);
  leave.abort();
  await settled;
  await eventually('the vm-runtime sees the client leave', () => isLeft);
});

test('a slow reader slows the producer, and gets every event in order', async () => {
  const total = 1000;
  const chunkBytes = 32 * 1024;
  let producedCount = 0;
  await using host = await serveTcp((serve) =>
    serve(ProcessService, {
      async *start() {
        for (; producedCount < total; producedCount++) {
          const stdout = Buffer.alloc(chunkBytes);
          stdout.writeUInt32BE(producedCount);
          yield { event: { event: { case: 'stdout', value: stdout } } };
        }
      },
      list: async () => ({}),
    }),
  );
  await using scheduler = await serveTcp((serve) =>
    serve(SchedulerService, { resolveSandbox: async () => ({ hostAddress: host.address }) }),
  );
  await using gateway = await startGateway(scheduler.address);
  const events = gateway.lanes.client('interactive', ProcessService).start({ sandboxId: id })[Symbol.asyncIterator]();
  let expected = 0;
  const take = async () => {
    const { value } = await events.next();
    const event = value?.event?.event;
    expect(event?.case === 'stdout' && Buffer.from(event.value).readUInt32BE(0)).toBe(expected++);
  };
  await take();
  // Not reading while other calls come and go: the buffers on the way fill, then the producer stands still.
  const processes = gateway.lanes.client('interactive', ProcessService);
  let beforeCount = -1;
  await eventually('the producer stands still', async () => {
    const stood = producedCount === beforeCount;
    beforeCount = producedCount;
    for (let n = 0; n < 20; n++) await processes.list({ sandboxId: id }, inMs(5000));
    return stood;
  });
  expect(producedCount).toBeLessThan(256);
  while (expected < total) await take();
  expect((await events.next()).done).toBe(true);
});

test('events of all sandboxes are forwarded in order while they happen', async () => {
  const happen = Array.from({ length: 3 }, () => Promise.withResolvers<void>());
  await using scheduler = await serveTcp((serve) =>
    serve(SandboxService, {
      async *watchEvents({ sandboxId, afterSequence }) {
        expect(sandboxId).toBe('');
        for (const [n, { promise }] of happen.entries()) {
          await promise;
          yield { event: { sequence: (afterSequence ?? 0n) + BigInt(n) + 1n } };
        }
      },
    }),
  );
  await using gateway = await startGateway(scheduler.address);
  const events = gateway.lanes
    .client('control', SandboxService)
    .watchEvents({ afterSequence: 40n })
    [Symbol.asyncIterator]();
  for (const [n, { resolve }] of happen.entries()) {
    resolve();
    expect((await events.next()).value?.event?.sequence).toBe(41n + BigInt(n));
  }
  expect((await events.next()).done).toBe(true);
});

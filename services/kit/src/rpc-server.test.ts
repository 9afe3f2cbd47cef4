import { execFileSync } from 'node:child_process';
import { rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';

import { Client, type ServiceError, credentials } from '@grpc/grpc-js';
import { create, createFileRegistry, fromBinary } from '@bufbuild/protobuf';
import { anyUnpack, FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { Health, HealthCheckResponse_ServingStatus as Serving } from '@wrenn/proto/grpc/health/v1/health';
import { ServerReflection } from '@wrenn/proto/grpc/reflection/v1/reflection';
import { ServerReflection as ServerReflectionAlpha } from '@wrenn/proto/grpc/reflection/v1alpha/reflection';
import { ErrorInfoSchema } from '@wrenn/proto/google/rpc/error_details';
import { StatusSchema } from '@wrenn/proto/google/rpc/status';
import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { SandboxService } from '@wrenn/proto/wrenn/v1/sandbox';
import { expect, test } from 'vitest';

import { inMs } from './deadlines.ts';
import { WrennError } from './errors.ts';
import { Lanes } from './lanes.ts';
import { openLog } from './log.ts';
import { RpcServer } from './rpc-server.ts';
import { partialHandlers } from './testkit/partial.ts';
import { serveForTest } from './testkit/serve.ts';
import { tempDir } from './testkit/temp-dir.ts';

const log = openLog('test', 'silent');
const MiB = 1024 * 1024;
const echo = partialHandlers(ProcessService, {
  sendInput: async () => ({}),
  exec: async ({ stdin, maxOutputBytes }) => ({ stdout: stdin?.length ? stdin : Buffer.alloc(Number(maxOutputBytes)) }),
});

test('health says NOT_SERVING until ready, then SERVING, for the whole and each service', async () => {
  await using dir = await tempDir();
  const server = new RpcServer({ log });
  server.add(LogService, partialHandlers(LogService, { readConsole: async () => ({}) }));
  await server.listen(`unix:${dir.path}/s`);
  const lanes = new Lanes(`unix:${dir.path}/s`, 'test');
  const health = lanes.client('control', Health);
  for (const expected of [Serving.NOT_SERVING, Serving.SERVING]) {
    for (const service of ['', 'wrenn.v1.LogService']) {
      expect((await health.check({ service }, inMs(5000))).status).toBe(expected);
    }
    server.ready();
  }
  const { statuses } = await health.list({}, inMs(5000));
  expect(Object.keys(statuses).sort()).toEqual(['', 'grpc.health.v1.Health', 'wrenn.v1.LogService']);
  expect(Object.values(statuses).every(({ status }) => status === Serving.SERVING)).toBe(true);
  lanes.close();
  await server.close();
});

test('health knows no service that is not there', async () => {
  await using server = await serveForTest(LogService, { readConsole: async () => ({}) });
  const health = server.lanes.client('control', Health);
  await expect(health.check({ service: 'nope' }, inMs(5000))).rejects.toMatchObject({
    message: expect.stringContaining('unknown service'),
  });
  for await (const { status } of health.watch({ service: 'nope' })) {
    expect(status).toBe(Serving.SERVICE_UNKNOWN);
    break;
  }
});

test.each([
  [
    'SERVICE_UNAVAILABLE',
    [new WrennError('SERVICE_UNAVAILABLE', 'a'), new AggregateError([new WrennError('DISK_FULL', 'b')])],
  ],
  ['INTERNAL', [new WrennError('SERVICE_UNAVAILABLE', 'a'), new Error('a mistake of ours')]],
  ['SERVICE_UNAVAILABLE', [new Error('undone', { cause: Object.assign(new Error('no file'), { code: 'EMFILE' }) })]],
])('several failures at once are answered with %s, a reason that all of them allow', async (reason, failures) => {
  await using server = await serveForTest(LogService, {
    readConsole: async () => {
      throw new AggregateError(failures, 'several');
    },
  });
  const call = server.lanes.client('control', LogService).readConsole({}, inMs(5000));
  await expect(call).rejects.toMatchObject({ reason });
});

test('a watcher hears NOT_SERVING when the server drains, and its stream ends', async () => {
  const server = await serveForTest(LogService, { readConsole: async () => ({}) });
  const heard: Serving[] = [];
  let closing: Promise<void> | undefined;
  for await (const { status } of server.lanes.client('control', Health).watch({ service: '' })) {
    heard.push(status);
    closing ??= Promise.resolve(server[Symbol.asyncDispose]());
  }
  await closing;
  expect(heard).toEqual([Serving.SERVING, Serving.NOT_SERVING]);
});

for (const [version, service] of [
  ['v1', ServerReflection],
  ['v1alpha', ServerReflectionAlpha as unknown as typeof ServerReflection],
] as const) {
  test(`reflection ${version} lists the services and resolves each to a complete descriptor`, async () => {
    await using server = await serveForTest(SandboxService, partialHandlers(SandboxService, {}));
    const ask = async (messageRequest: object) => {
      async function* requests() {
        yield { messageRequest } as never;
      }
      for await (const answer of server.lanes.client('control', service).serverReflectionInfo(requests(), inMs(5000)))
        return answer.messageResponse;
      throw new Error('no answer');
    };
    const list = await ask({ case: 'listServices', value: '' });
    if (list.case !== 'listServicesResponse') throw new Error(String(list.case));
    const names = list.value.service.map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining([
        'grpc.health.v1.Health',
        'grpc.reflection.v1.ServerReflection',
        'grpc.reflection.v1alpha.ServerReflection',
        'wrenn.v1.SandboxService',
      ]),
    );
    for (const name of names) {
      const answer = await ask({ case: 'fileContainingSymbol', value: name });
      if (answer.case !== 'fileDescriptorResponse') throw new Error(`${name}: ${answer.case}`);
      const files = answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
      const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: files.reverse() }));
      expect(registry.getService(name)?.methods.length).toBeGreaterThan(0);
    }
    for (const symbol of ['wrenn.v1.Sandbox', 'wrenn.v1.SandboxState', 'wrenn.v1.SandboxService.Create']) {
      expect(await ask({ case: 'fileContainingSymbol', value: symbol })).toMatchObject({
        case: 'fileDescriptorResponse',
      });
    }
    expect(await ask({ case: 'fileByFilename', value: 'google/protobuf/duration.proto' })).toMatchObject({
      case: 'fileDescriptorResponse',
    });
    expect(await ask({ case: 'fileContainingSymbol', value: 'wrenn.v1.Nothing' })).toMatchObject({
      case: 'errorResponse',
      value: { errorCode: 5 },
    });
  });
}

// What a client that sends arbitrary bytes gets back.
async function answerTo(path: string, bytes: Buffer): Promise<ServiceError | null> {
  const server = new RpcServer({ log, drainMs: 100 });
  server.add(ProcessService, echo);
  const port = await server.listen('127.0.0.1:0');
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  const pass = (value: Buffer) => value;
  const error = await new Promise<ServiceError | null>((resolve) => {
    client.makeUnaryRequest(path, pass, pass, bytes, { deadline: Date.now() + 5000 }, resolve);
  });
  client.close();
  await server.close();
  return error;
}

const nested = (depth: number) => {
  // Field 100 of no meaning, as a group within a group: what exhausts a naive parser's stack.
  const open = Buffer.from([0xa3, 0x06]);
  return Buffer.concat(Array.from({ length: depth }, () => open));
};

test.each([
  ['a truncated field', Buffer.from([10, 200, 1])],
  ['an endless varint', Buffer.alloc(20, 0xff)],
  ['a string that is not UTF-8', Buffer.from([10, 2, 0xc3, 0x28])],
  ['groups nested 100,000 deep', nested(100_000)],
  ['field number zero', Buffer.from([0, 0])],
])('%s is INVALID_ARGUMENT with a reason', async (_what, bytes) => {
  const error = await answerTo('/wrenn.v1.ProcessService/SendInput', bytes);
  expect(error?.code).toBe(3);
  const [details] = error!.metadata.get('grpc-status-details-bin');
  const [any] = fromBinary(StatusSchema, details as Buffer).details;
  expect(anyUnpack(any!, ErrorInfoSchema)).toMatchObject({ reason: 'INVALID_FIELD', metadata: { field: 'request' } });
});

test('unknown fields are let pass', async () => {
  expect(await answerTo('/wrenn.v1.ProcessService/SendInput', Buffer.from([0xa0, 0x06, 1]))).toBeNull();
});

test('an rpc that is not there is UNIMPLEMENTED', async () => {
  expect((await answerTo('/wrenn.v1.ProcessService/Nope', Buffer.alloc(0)))?.code).toBe(12);
});

test('a message of 3 MiB passes and one of 5 MiB is MESSAGE_TOO_LARGE, either way', async () => {
  await using server = await serveForTest(ProcessService, echo);
  const client = server.lanes.client('interactive', ProcessService);
  expect((await client.exec({ stdin: Buffer.alloc(3 * MiB) }, inMs(10_000))).stdout).toHaveLength(3 * MiB);
  const tooLarge = { reason: 'MESSAGE_TOO_LARGE' };
  await expect(client.exec({ stdin: Buffer.alloc(5 * MiB) }, inMs(10_000))).rejects.toMatchObject(tooLarge);
  await expect(client.exec({ maxOutputBytes: BigInt(5 * MiB) }, inMs(10_000))).rejects.toMatchObject(tooLarge);
  expect((await client.exec({ stdin: Buffer.from('ok') }, inMs(10_000))).stdout).toHaveLength(2);
});

test('a call that outlives the drain is cut, and close returns', async () => {
  await using dir = await tempDir();
  const server = new RpcServer({ log, drainMs: 100 });
  const started = Promise.withResolvers<void>();
  server.add(
    LogService,
    partialHandlers(LogService, {
      readConsole: async () => {
        started.resolve();
        await new Promise(() => undefined);
        return {};
      },
    }),
  );
  await server.listen(`unix:${dir.path}/s`);
  const lanes = new Lanes(`unix:${dir.path}/s`, 'test');
  const call = lanes.client('control', LogService).readConsole({}, inMs(20_000));
  await Promise.all([
    expect(call).rejects.toMatchObject({ reason: expect.stringMatching(/SERVICE_UNAVAILABLE|CANCELLED/) }),
    started.promise.then(() => server.close()),
  ]);
  lanes.close();
});

test('a socket file left by a killed server is taken over, one that is served is not', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'rpc.sock');
  const other = createServer().listen(path);
  const server = new RpcServer({ log });
  server.add(LogService, partialHandlers(LogService, { readConsole: async () => ({}) }));
  await expect(server.listen(`unix:${path}`)).rejects.toThrow(`${path} is served by another process`);
  expect((await stat(path)).isSocket()).toBe(true);
  await new Promise((resolve) => other.close(resolve));
  await rm(path, { force: true });
  // Bound and then killed without unlinking: what SIGKILL leaves.
  const script = `require('net').createServer().listen(${JSON.stringify(path)},()=>process.kill(process.pid,'SIGKILL'))`;
  expect(() => execFileSync(process.execPath, ['-e', script])).toThrow();
  expect((await stat(path)).isSocket()).toBe(true);
  const next = new RpcServer({ log });
  next.add(LogService, partialHandlers(LogService, { readConsole: async () => ({}) }));
  await next.listen(`unix:${path}`);
  await next.close();
});

test('a stream that sends its header is known to have begun before its first message', async () => {
  const begun = Promise.withResolvers<void>();
  await using server = await serveForTest(
    ProcessService,
    partialHandlers(ProcessService, {
      start: async function* start(_request, call) {
        call.sendHeader();
        await begun.promise;
        yield {};
      },
    }),
  );
  const client = server.lanes.client('interactive', ProcessService);
  let count = 0;
  for await (const _ of client.start({}, { ...inMs(5000), onHeader: () => begun.resolve() })) count++;
  expect(count).toBe(1);
});

test('a unix socket lets nobody but our own user connect, and its directory is made', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'new', 'dirs', 'rpc.sock');
  const server = new RpcServer({ log });
  server.add(LogService, partialHandlers(LogService, { readConsole: async () => ({}) }));
  await server.listen(`unix:${path}`);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await server.close();
});

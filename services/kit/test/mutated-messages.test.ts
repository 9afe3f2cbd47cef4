// Messages damaged at random, from a seed, for every public rpc: each is taken or refused as no message of its type,
// and none costs the server anything that stays.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { type DescMethod, type DescService, fromBinary } from '@bufbuild/protobuf';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import { Client, type ServiceError, credentials, status } from '@grpc/grpc-js';
import { ErrorInfoSchema } from '@wrenn/proto/google/rpc/error_details';
import { StatusSchema } from '@wrenn/proto/google/rpc/status';
import { FilesystemService } from '@wrenn/proto/wrenn/v1/filesystem';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { SandboxService } from '@wrenn/proto/wrenn/v1/sandbox';
import { SnapshotService } from '@wrenn/proto/wrenn/v1/snapshot';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { openLog } from '../src/log.ts';
import { type RpcHandlers, RpcServer } from '../src/rpc-server.ts';
import { Dice, thorough } from '../src/testkit/dice.ts';

const services = [SandboxService, ProcessService, FilesystemService, SnapshotService] as const;
const methods = services.flatMap((service: DescService) => service.methods);
const MiB = 2 ** 20;
const count = thorough(3000);
const atOnce = 8;

const server = new RpcServer({ log: openLog('test', 'silent'), drainMs: 100 });
let client: Client;
let compressing: Client;
beforeAll(async () => {
  for (const service of services) server.add(service as GenService<GenServiceMethods>, taking(service));
  const address = `127.0.0.1:${await server.listen('127.0.0.1:0')}`;
  client = new Client(address, credentials.createInsecure());
  const gzip = 2;
  compressing = new Client(address, credentials.createInsecure(), { 'grpc.default_compression_algorithm': gzip });
});
afterAll(async () => {
  client.close();
  compressing.close();
  await server.close();
});

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function keptBytes(): number {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

// Handlers that take whatever is a message, and answer with nothing in it.
function taking(service: DescService): RpcHandlers<GenServiceMethods> {
  const drained = async (input: unknown) => {
    if (input && typeof input === 'object' && Symbol.asyncIterator in input) {
      for await (const _message of input as AsyncIterable<unknown>) continue;
    }
  };
  const answer = async (input: unknown) => (await drained(input), {});
  // oxlint-disable-next-line require-yield
  async function* noAnswer(input: unknown) {
    await drained(input);
  }
  const answers = {
    unary: answer,
    client_streaming: answer,
    server_streaming: noAnswer,
    bidi_streaming: noAnswer,
  };
  return Object.fromEntries(
    service.methods.map(({ localName, methodKind }) => [localName, answers[methodKind]]),
  ) as RpcHandlers<GenServiceMethods>;
}

const same = (bytes: Buffer) => bytes;

function answerTo(from: Client, method: DescMethod, bytes: Buffer): Promise<ServiceError | null> {
  const path = `/${method.parent.typeName}/${method.name}`;
  const deadline = { deadline: Date.now() + 20_000 };
  return new Promise((resolve) => {
    if (method.methodKind === 'unary') from.makeUnaryRequest(path, same, same, bytes, deadline, resolve);
    else {
      const call = from.makeBidiStreamRequest(path, same, same, deadline);
      call
        .on('error', (error: ServiceError) => resolve(error))
        .on('end', () => resolve(null))
        .resume();
      call.end(bytes);
    }
  });
}

// Fields as a message has them, of numbers that most messages know, nested, and then damaged.
function mutated(dice: Dice): Buffer {
  const bytes = fields(dice, 3);
  for (let damage = dice.below(4); damage > 0 && bytes.length > 0; damage--) {
    const at = dice.below(bytes.length);
    if (dice.chance(0.2)) return bytes.subarray(0, at);
    bytes[at] = dice.below(256);
  }
  return bytes;
}

function fields(dice: Dice, depth: number): Buffer {
  return Buffer.concat(Array.from({ length: dice.below(6) }, () => field(dice, depth)));
}

function field(dice: Dice, depth: number): Buffer {
  const number = dice.chance(0.9) ? 1 + dice.below(12) : dice.below(2 ** 28);
  const type = dice.pick([0, 0, 1, 2, 2, 2, 2, 5, 3, 4, 6, 7]);
  const tag = varint(number * 8 + type);
  if (type === 0) return Buffer.concat([tag, dice.chance(0.1) ? Buffer.alloc(11, 0xff) : varint(dice.below(2 ** 31))]);
  if (type === 1) return Buffer.concat([tag, Buffer.alloc(8, dice.below(256))]);
  if (type === 5) return Buffer.concat([tag, Buffer.alloc(4, dice.below(256))]);
  if (type !== 2) return tag;
  const nests = depth > 0 && dice.chance(0.4);
  const inner = nests ? fields(dice, depth - 1) : Buffer.alloc(dice.below(40), dice.pick([0x61, 0, 0xff, 0xc3]));
  return Buffer.concat([tag, varint(dice.chance(0.05) ? dice.below(2 ** 31) : inner.length), inner]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

function fieldOf({ metadata }: ServiceError): string | undefined {
  const [details] = metadata.get('grpc-status-details-bin');
  const info = fromBinary(StatusSchema, details as Buffer).details.map((any) => anyUnpack(any, ErrorInfoSchema))[0];
  return info?.reason === 'INVALID_FIELD' ? info.metadata['field'] : info?.reason;
}

test(`each of ${count} is taken, or refused as no message`, { timeout: thorough(120_000) }, async () => {
  const dice = new Dice(11);
  const inputs = Array.from({ length: count }, () => [dice.pick(methods), mutated(dice)] as const).values();
  const beforeBytes = keptBytes();
  const beforeRss = process.memoryUsage().rss;
  let taken = 0;
  const lane = async () => {
    for (const [method, bytes] of inputs) {
      const error = await answerTo(client, method, bytes);
      if (!error) taken += 1;
      else {
        const what = `${method.name} ${bytes.toString('hex')}: ${error.message}`;
        expect([error.code, fieldOf(error)], what).toEqual([status.INVALID_ARGUMENT, 'request']);
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  expect(taken).toBeGreaterThan(count / 20);
  expect(taken).toBeLessThan(count / 2);
  expect(process.memoryUsage().rss - beforeRss).toBeLessThan(thorough(200) * MiB);
  // Of server, client and test, however many there were: what was taken for them is garbage by now.
  expect(keptBytes() - beforeBytes).toBeLessThan(20 * MiB);
});

test('a message that is small until it is unpacked is too large', async () => {
  for (const method of [ProcessService.method.exec, FilesystemService.method.write]) {
    const error = await answerTo(compressing, method, Buffer.alloc(64 * MiB));
    expect(error?.code).toBe(status.RESOURCE_EXHAUSTED);
  }
});

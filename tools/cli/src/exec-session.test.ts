import { PassThrough, Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';

import { WrennError } from '@wrenn/kit/errors';
import type { RpcHandlers } from '@wrenn/kit/rpc-server';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { partialHandlers } from '@wrenn/kit/testkit/partial';
import { serveForTest } from '@wrenn/kit/testkit/serve';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { expect, test } from 'vitest';

import { MeshClient } from './client.ts';
import { type CommandSpec, ExecSession } from './exec-session.ts';

type Handlers = RpcHandlers<(typeof ProcessService)['method']>;
type Start = Handlers['start'];

const spec: CommandSpec = { command: 'x', args: [], env: {}, cwd: '', user: '' };
const started = { event: { event: { case: 'started', value: { pid: 7 } } } } as const;
const exited = (exitCode: number) => ({ event: { event: { case: 'exited', value: { exitCode } } } }) as const;
const stdout = (value: Uint8Array) => ({ event: { event: { case: 'stdout', value } } }) as const;
const unused = async () => ({});

function handlersWith(start: Start, own: Partial<Handlers> = {}): Handlers {
  const rest = { exec: unused, sendInput: unused, closeStdin: unused, signal: unused, list: unused };
  return partialHandlers(ProcessService, { connect: start as never, ...rest, ...own, start });
}

function collected(stream: PassThrough): Buffer {
  return (stream.read() as Buffer | null) ?? Buffer.alloc(0);
}

test('bytes come out as they went in, and the exit code with them', async () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
  await using server = await serveForTest(
    ProcessService,
    handlersWith(async function* () {
      yield started;
      yield stdout(bytes);
      yield exited(3);
    }),
  );
  using client = new MeshClient(server.address);
  const [out, err] = [new PassThrough(), new PassThrough()];
  const result = await new ExecSession(client, 'cl-1').run(spec, { stdin: undefined, stdout: out, stderr: err });
  expect(result).toEqual({ exitCode: 3, isTimedOut: false });
  expect(collected(out)).toEqual(Buffer.from(bytes));
});

test('a stream that ends before the command did is an error, never success', async () => {
  await using server = await serveForTest(
    ProcessService,
    handlersWith(async function* () {
      yield started;
    }),
  );
  using client = new MeshClient(server.address);
  const streams = { stdin: undefined, stdout: new PassThrough(), stderr: new PassThrough() };
  await expect(new ExecSession(client, 'cl-1').run(spec, streams)).rejects.toThrow('ended before the command did');
});

test('input is sent in order and closed; a command that stops reading it is no failure', async () => {
  const received: Buffer[] = [];
  const closed = Promise.withResolvers<void>();
  await using server = await serveForTest(
    ProcessService,
    handlersWith(
      async function* () {
        yield started;
        await closed.promise;
        yield exited(0);
      },
      {
        sendInput: async ({ data }) => {
          received.push(Buffer.from(data));
          if (received.length === 3) {
            closed.resolve();
            throw new WrennError('STDIN_CLOSED', 'closed');
          }
          return {};
        },
      },
    ),
  );
  using client = new MeshClient(server.address);
  async function* stdin() {
    for (const text of ['one', 'two', 'three', 'four']) yield Buffer.from(text);
  }
  const streams = { stdin: stdin(), stdout: new PassThrough(), stderr: new PassThrough() };
  const result = await new ExecSession(client, 'cl-1').run(spec, streams);
  expect(result.exitCode).toBe(0);
  expect(received.map(String)).toEqual(['one', 'two', 'three']);
});

test('a signal that comes before the command has started is delivered once it has', async () => {
  const signals: number[] = [];
  const delivered = Promise.withResolvers<void>();
  await using server = await serveForTest(
    ProcessService,
    handlersWith(
      async function* () {
        yield started;
        await delivered.promise;
        yield exited(130);
      },
      {
        signal: async ({ signal, process }) => {
          expect(process?.selector).toMatchObject({ case: 'pid', value: 7 });
          signals.push(signal);
          delivered.resolve();
          return {};
        },
      },
    ),
  );
  using client = new MeshClient(server.address);
  const session = new ExecSession(client, 'cl-1');
  await session.signal(2);
  const streams = { stdin: undefined, stdout: new PassThrough(), stderr: new PassThrough() };
  expect((await session.run(spec, streams)).exitCode).toBe(130);
  expect(signals).toEqual([2]);
});

test('a command that outlasts its time is killed and reported as timed out', async () => {
  const killed = Promise.withResolvers<void>();
  await using server = await serveForTest(
    ProcessService,
    handlersWith(
      async function* () {
        yield started;
        await killed.promise;
        yield exited(137);
      },
      {
        signal: async ({ signal }) => {
          if (signal === 9) killed.resolve();
          return {};
        },
      },
    ),
  );
  using client = new MeshClient(server.address);
  const streams = { stdin: undefined, stdout: new PassThrough(), stderr: new PassThrough() };
  const result = await new ExecSession(client, 'cl-1').run(spec, streams, 20);
  expect(result).toEqual({ exitCode: 137, isTimedOut: true });
});

test('output is not taken faster than it is read', async () => {
  let sent = 0;
  const chunk = new Uint8Array(32 * 1024);
  await using server = await serveForTest(
    ProcessService,
    handlersWith(async function* () {
      yield started;
      for (; sent < 2000; sent++) yield stdout(chunk);
      yield exited(0);
    }),
  );
  using client = new MeshClient(server.address);
  let written = 0;
  const waiting: (() => void)[] = [];
  const slow = new Writable({
    highWaterMark: 1,
    write(_chunk, _encoding, done) {
      written += 1;
      waiting.push(done);
    },
  });
  const run = new ExecSession(client, 'cl-1').run(spec, { stdin: undefined, stdout: slow, stderr: new PassThrough() });
  let seen = -1;
  await eventually('the sender stands still', async () => {
    const before = seen;
    seen = sent;
    for (let turn = 0; turn < 50; turn++) await setImmediate();
    return written === 1 && before === sent;
  });
  expect(sent).toBeLessThan(500);
  const drain = setInterval(() => {
    for (const done of waiting.splice(0)) done();
  });
  expect((await run).exitCode).toBe(0);
  clearInterval(drain);
  expect(written).toBe(2000);
});

test('a command whose reader has left is told by the signal it would get locally', async () => {
  const signals: number[] = [];
  const piped = Promise.withResolvers<void>();
  await using server = await serveForTest(
    ProcessService,
    handlersWith(
      async function* () {
        yield started;
        yield stdout(Buffer.from('unread'));
        await piped.promise;
        yield exited(141);
      },
      {
        signal: async ({ signal }) => {
          signals.push(signal);
          piped.resolve();
          return {};
        },
      },
    ),
  );
  using client = new MeshClient(server.address);
  const gone = new PassThrough();
  gone.on('error', () => undefined);
  gone.destroy();
  const streams = { stdin: undefined, stdout: gone, stderr: new PassThrough() };
  expect((await new ExecSession(client, 'cl-1').run(spec, streams)).exitCode).toBe(141);
  expect(signals).toEqual([13]);
});

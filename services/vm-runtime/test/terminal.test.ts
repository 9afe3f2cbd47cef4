// A caller at a terminal, over real gRPC on both sides: to vm-runtime's handlers, and on to something on the agent's
// port that notes what it is told.
import { PassThrough } from 'node:stream';

import { type MessageInitShape, create, toBinary } from '@bufbuild/protobuf';
import { anyPack } from '@bufbuild/protobuf/wkt';
import { inMs } from '@wrenn/kit/deadlines';
import { codeOf } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import type { Call } from '@wrenn/kit/rpc-server';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { serveForTest } from '@wrenn/kit/testkit/serve';
import { ErrorInfoSchema } from '@wrenn/proto/google/rpc/error_details';
import { StatusSchema } from '@wrenn/proto/google/rpc/status';
import { Process } from '@wrenn/proto/process/process';
import {
  type ProcessEvent,
  ProcessService,
  type ProcessServiceAttachRequestSchema,
} from '@wrenn/proto/wrenn/v1/process';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { GrpcAgentDialer } from '../src/adapters/grpc-guest-agent.ts';
import type { RunningVm } from '../src/domain/vm.ts';
import { processHandlers } from '../src/process-server.ts';
import { type Lie, answering, beginAnswer, ended, message, started, startLyingAgent } from './lying-agent.ts';
import { startAgent } from './stand-in-agent.ts';

type Request = MessageInitShape<typeof ProcessServiceAttachRequestSchema>;
type Start = Extract<NonNullable<Request['part']>, { case: 'start' }>['value'];

const sandboxId = newSandboxId();
const process_ = { command: 'sh' };
const fresh: Start = { sandboxId, terminal: { case: 'newTerminal', value: { process: process_, tag: 'main' } } };
const tagged: Start = {
  sandboxId,
  terminal: { case: 'existing', value: { selector: { case: 'tag', value: 'main' } } },
};
const start = (value: Start): Request => ({ part: { case: 'start', value } });
const input = (text: string): Request => ({ part: { case: 'input', value: Buffer.from(text) } });
const screen = (columns: number, rows: number, sequence = 5n) => ({
  event: {
    sequence,
    event: { case: 'screen' as const, value: { size: { cols: columns, rows }, contents: Buffer.from('drawn') } },
  },
});
const shown = (sequence: bigint, text: string) => ({
  event: {
    sequence,
    event: { case: 'data' as const, value: { output: { case: 'pty' as const, value: Buffer.from(text) } } },
  },
});

let cleanup: AsyncDisposableStack;
beforeEach(() => void (cleanup = new AsyncDisposableStack()));
afterEach(() => cleanup.disposeAsync());

async function serveAt(address: string) {
  const agent = new GrpcAgentDialer({ startMs: 2000, lingerMs: 100 }).dial(address, '');
  cleanup.defer(() => agent.close('VMM_DIED'));
  const vms = { serving: async () => ({ agent }) as unknown as RunningVm };
  const server = cleanup.use(await serveForTest(ProcessService, processHandlers(vms)));
  return server.lanes.client('interactive', ProcessService);
}

// An agent with one terminal, which shows its keys again and ends with ^D. It notes what it is told, in order.
class Told {
  readonly notes: string[] = [];
  overCount = 0; // Of its streams: those that were cut, and those of keys that have ended.
  keysFailure: Error | undefined;
  takesKeys: Promise<void> = Promise.resolve();
  #keys = new PassThrough({ objectMode: true });

  async *#shows(first: readonly { readonly event: object }[], sequence: bigint, call: Call) {
    call.signal.addEventListener('abort', () => this.overCount++);
    yield { event: { event: { case: 'start' as const, value: { pid: 7 } } } };
    yield* first as never[];
    for await (const keys of this.#keys.iterator({ destroyOnReturn: false })) {
      if (String(keys) === '\u0004') break;
      yield shown(++sequence, String(keys));
    }
    yield { event: { sequence: ++sequence, event: { case: 'end' as const, value: { exitCode: 3, exited: true } } } };
  }

  serve() {
    return startAgent({
      rpc: (add) =>
        add(Process, {
          start: (request, call) => {
            const { cols, rows } = request.pty?.size ?? {};
            this.notes.push(`start ${request.process?.cmd} ${request.tag} ${cols}x${rows}`);
            return this.#shows([], 0n, call);
          },
          connect: (request, call) => {
            const { afterSequence } = request;
            this.notes.push(`connect ${request.process?.selector.value} screen=${request.screen} ${afterSequence}`);
            return this.#shows(afterSequence === undefined ? [screen(100, 30)] : [], afterSequence ?? 5n, call);
          },
          streamInput: async (requests) => {
            await this.takesKeys;
            for await (const { event } of requests) {
              if (event.case === 'start') this.notes.push(`keys of ${event.value.process?.selector.value}`);
              if (event.case !== 'data' || event.value.input?.input.case !== 'pty') continue;
              if (this.keysFailure) throw this.keysFailure;
              this.#keys.write(Buffer.from(event.value.input.input.value).toString());
            }
            this.notes.push('end of keys');
            this.overCount++;
            return {};
          },
          update: async ({ process, pty }) => {
            this.notes.push(`resize ${process?.selector.value} ${pty?.size?.cols}x${pty?.size?.rows}`);
            return {};
          },
          sendSignal: async ({ process, signal, foreground }) => {
            this.notes.push(`signal ${process?.selector.value} ${signal} foreground=${foreground}`);
            return {};
          },
        }),
    });
  }
}

async function attachTo(told: Told, ...first: Request[]) {
  const agent = cleanup.use(await told.serve());
  const client = await serveAt(agent.address);
  const messages = new PassThrough({ objectMode: true });
  for (const request of first) messages.write(request);
  const leave = new AbortController();
  const events = client.attach(messages, { signal: leave.signal })[Symbol.asyncIterator]();
  const next = async () => textOf((await events.next()).value?.event);
  return { client, messages, leave, next };
}

function textOf(event: ProcessEvent | undefined): string {
  if (!event) return 'over';
  const { sequence, event: what } = event;
  if (what.case === 'terminal') return `${sequence}: ${Buffer.from(what.value).toString()}`;
  if (what.case === 'exited') return `${sequence}: exited ${what.value.exitCode}`;
  if (what.case !== 'screen') return `${what.case}`;
  return `${sequence}: screen ${what.value.size?.columns}x${what.value.size?.rows} ${Buffer.from(what.value.contents).toString()}`;
}

test('a new terminal has the size that was asked for, its keys go in in order, its exit comes last', async () => {
  const told = new Told();
  const at = await attachTo(told, start({ ...fresh, size: { columns: 132, rows: 43 } }));
  expect(await at.next()).toBe('started');
  for (let n = 1; n <= 100; n++) at.messages.write(input(`k${n}`));
  for (let n = 1; n <= 100; n++) expect(await at.next()).toBe(`${n}: k${n}`);
  at.messages.write(input('\u0004'));
  expect([await at.next(), await at.next()]).toEqual(['101: exited 3', 'over']);
  expect(told.notes.slice(0, 2)).toEqual(['start sh main 132x43', 'keys of 7']);
});

test('a new terminal is 80 x 24 for who does not care', async () => {
  const told = new Told();
  const at = await attachTo(told, start(fresh));
  await at.next();
  expect(told.notes[0]).toBe('start sh main 80x24');
});

test('who attaches anew is shown what there is, at its own size, and then what follows', async () => {
  const told = new Told();
  const at = await attachTo(told, start({ ...tagged, size: { columns: 100, rows: 30 } }), input('x'));
  expect([await at.next(), await at.next(), await at.next()]).toEqual(['started', '5: screen 100x30 drawn', '6: x']);
  expect(told.notes).toEqual(['resize main 100x30', 'connect main screen=true undefined', 'keys of 7']);
});

test('who has seen something gets what came behind it, and the size stays where none is named', async () => {
  const told = new Told();
  const at = await attachTo(told, start({ ...tagged, afterSequence: 41n }), input('x'));
  expect([await at.next(), await at.next()]).toEqual(['started', '42: x']);
  expect(told.notes).toEqual(['connect main screen=true 41', 'keys of 7']);
});

test('resizes and signals reach it, also while it takes no keys', async () => {
  const told = new Told();
  const takes = Promise.withResolvers<void>();
  told.takesKeys = takes.promise;
  const at = await attachTo(told, start(tagged), input('waits'));
  await at.next();
  at.messages.write({ part: { case: 'resize', value: { columns: 65_535, rows: 1 } } });
  at.messages.write({ part: { case: 'signal', value: 2 } });
  await eventually('both came', () => told.notes.length === 3);
  expect(told.notes.slice(1)).toEqual(['resize 7 65535x1', 'signal 7 2 foreground=true']);
  takes.resolve();
  expect([await at.next(), await at.next()]).toEqual(['5: screen 100x30 drawn', '6: waits']);
});

test('the end of the keys ends nothing else', async () => {
  const told = new Told();
  const at = await attachTo(told, start(tagged));
  at.messages.end();
  expect([await at.next(), await at.next()]).toEqual(['started', '5: screen 100x30 drawn']);
  await eventually('the keys have ended', () => told.notes.includes('end of keys'));
  expect(told.overCount).toBe(1);
});

test('a caller that leaves takes its streams along, and does nothing to the terminal', async () => {
  const told = new Told();
  const at = await attachTo(told, start(tagged));
  expect([await at.next(), await at.next()]).toEqual(['started', '5: screen 100x30 drawn']);
  await eventually('keys can come', () => told.notes.includes('keys of 7'));
  at.leave.abort();
  await expect(at.next()).rejects.toMatchObject({ reason: 'CANCELLED' });
  await eventually('both streams are over', () => told.overCount === 2);
  expect(told.notes).toEqual(['connect main screen=true undefined', 'keys of 7', 'end of keys']);
});

test.each<[field: string, requests: Request[]]>([
  ['start', []],
  ['start', [input('early')]],
  ['start', [{}]],
  ['sandbox_id', [start({ ...fresh, sandboxId: 'cl-1' })]],
  ['terminal', [start({ sandboxId })]],
  ['process', [start({ sandboxId, terminal: { case: 'newTerminal', value: {} } })]],
  ['tag', [start({ sandboxId, terminal: { case: 'newTerminal', value: { process: process_, tag: 'a b' } } })]],
  ['after_sequence', [start({ ...fresh, afterSequence: 1n })]],
  ['process', [start({ sandboxId, terminal: { case: 'existing', value: {} } })]],
  ['size.columns', [start({ ...fresh, size: { columns: 0, rows: 24 } })]],
  ['size.rows', [start({ ...tagged, size: { columns: 80, rows: 65_536 } })]],
])('a call that begins wrong is refused before the agent hears of it: %s (case %#)', async (field, requests) => {
  const told = new Told();
  const at = await attachTo(told, ...requests);
  at.messages.end();
  await expect(at.next()).rejects.toMatchObject({ reason: 'INVALID_FIELD', meta: { field } });
  expect(told.notes).toEqual([]);
});

test.each<[field: string, request: Request]>([
  ['start', start(tagged)],
  ['part', {}],
  ['input', input('')],
  ['size.columns', { part: { case: 'resize', value: { columns: 65_536, rows: 24 } } }],
  ['signal', { part: { case: 'signal', value: 65 } }],
])('one that goes on wrong ends with the field that is: %s', async (field, request) => {
  const told = new Told();
  const at = await attachTo(told, start(tagged), request);
  const toItsEnd = async () => {
    while ((await at.next()) !== 'over');
  };
  await expect(toItsEnd()).rejects.toMatchObject({ reason: 'INVALID_FIELD', meta: { field } });
  await eventually('its streams are over', () => told.overCount === 2);
});

// As the real agent refuses.
const refusing = (reason: string, code: number): Lie => {
  const info = create(ErrorInfoSchema, { reason, domain: 'agent.wrenn', metadata: { oldest_sequence: '7' } });
  const status = create(StatusSchema, { code, details: [anyPack(ErrorInfoSchema, info)] });
  return answering([], {
    'grpc-status': `${code}`,
    'grpc-status-details-bin': Buffer.from(toBinary(StatusSchema, status)).toString('base64'),
  });
};

test.each([
  ['NO_PTY', 'NOT_A_TERMINAL', {}],
  ['PROCESS_NOT_FOUND', 'PROCESS_NOT_FOUND', {}],
  ['REPLAY_GONE', 'REPLAY_GONE', { oldest_sequence: '7' }],
] as const)('what the agent refuses with %s is %s', async (agentReason, reason, meta) => {
  const liar = cleanup.use(await startLyingAgent(refusing(agentReason, codeOf[reason])));
  const client = await serveAt(liar.address);
  const messages = new PassThrough({ objectMode: true });
  messages.write(start(tagged));
  await expect(Array.fromAsync(client.attach(messages))).rejects.toMatchObject({ reason, meta });
  const process = { selector: { case: 'tag' as const, value: 'main' } };
  const resized = client.resize({ sandboxId, process, size: { columns: 80, rows: 24 } }, inMs(5000));
  await expect(resized).rejects.toMatchObject({ reason });
});

test('keys that came too late to be read leave the exit as it is', async () => {
  const liar = cleanup.use(
    await startLyingAgent((stream, headers) => {
      if (headers[':path'] !== '/process.Process/Connect') return refusing('STDIN_CLOSED', 9)(stream, headers);
      beginAnswer(stream);
      stream.write(message(started()));
      setImmediate(() => stream.end(message(ended(1n, 4))));
    }),
  );
  const client = await serveAt(liar.address);
  const messages = new PassThrough({ objectMode: true });
  messages.write(start({ ...tagged, afterSequence: 0n }));
  messages.write(input('x'));
  const events = await Array.fromAsync(client.attach(messages));
  expect(events.map(({ event }) => textOf(event))).toEqual(['started', '1: exited 4']);
});

test.each<[what: string, afterSequence: bigint | undefined, event: ReturnType<typeof screen>[]]>([
  ['a screen for who has seen something', 4n, [screen(80, 24)]],
  ['two screens', undefined, [screen(80, 24), screen(80, 24)]],
  ['a screen without cells', undefined, [screen(0, 24)]],
  ['a screen of more cells than there can be', undefined, [screen(80, 65_536)]],
])('an agent that tells %s has misbehaved', async (_what, afterSequence, told) => {
  const events = [started(), ...told.map(({ event }) => event), ended(6n)];
  const liar = cleanup.use(
    await startLyingAgent((stream, headers) => {
      if (headers[':path'] === '/process.Process/Connect') answering(events.map(message))(stream, headers);
      else beginAnswer(stream);
    }),
  );
  const client = await serveAt(liar.address);
  const messages = new PassThrough({ objectMode: true });
  messages.write(start({ ...tagged, ...(afterSequence !== undefined && { afterSequence }) }));
  await expect(Array.fromAsync(client.attach(messages))).rejects.toMatchObject({ reason: 'AGENT_MISBEHAVED' });
});

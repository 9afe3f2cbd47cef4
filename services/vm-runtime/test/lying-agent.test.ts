// The whole way of a caller to a guest whose agent is not to be trusted: real gRPC to vm-runtime's handlers, a real
// socket to something that lies. Each case ends with a reason, in time, and with nothing left open.
import { createServer } from 'node:net';

import { type OutboundCall, inMs } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
import { statusDetails } from '@wrenn/kit/rpc-errors';
import { type Reason, WrennError } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import { Dice, thorough } from '@wrenn/kit/testkit/dice';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { serveForTest } from '@wrenn/kit/testkit/serve';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { GrpcAgentDialer } from '../src/adapters/grpc-guest-agent.ts';
import type { GuestAgent } from '../src/domain/guest-agent.ts';
import type { RunningVm } from '../src/domain/vm.ts';
import { processHandlers } from '../src/process-server.ts';
import {
  type Event,
  type Lie,
  answering,
  beginAnswer,
  ended,
  framed,
  message,
  said,
  started,
  startLyingAgent,
  telling,
} from './lying-agent.ts';
import { listenSomewhere } from './stand-in-agent.ts';

const sandboxId = newSandboxId();
const process_ = { command: 'true' };
const limits = { startMs: 300, lingerMs: 100 };
const soon = (): OutboundCall => inMs(5000);
const MiB = 2 ** 20;
let cleanup: AsyncDisposableStack;
beforeEach(() => void (cleanup = new AsyncDisposableStack()));
afterEach(() => cleanup.disposeAsync());

async function serveAt(address: string) {
  const agent: GuestAgent = new GrpcAgentDialer(limits).dial(address, '');
  cleanup.defer(() => agent.close('VMM_DIED'));
  const server = cleanup.use(
    await serveForTest(ProcessService, processHandlers({ serving: async () => ({ agent }) as unknown as RunningVm })),
  );
  return { agent, client: server.lanes.client('interactive', ProcessService) };
}

async function serve(lie: Lie) {
  const liar = cleanup.use(await startLyingAgent(lie));
  const served = await serveAt(liar.address);
  return { ...served, liar, started: () => Array.fromAsync(served.client.start({ sandboxId, process: process_ })) };
}

type Served = Awaited<ReturnType<typeof serve>>;

// Whatever was told, no connection outlives the VM.
async function leavesNothing({ agent, liar }: Served): Promise<void> {
  agent.close('VMM_DIED');
  await eventually('all connections to the agent are closed', () => liar.sockets.size === 0);
}

const lies: [what: string, lie: Lie][] = [
  ['output before the start', telling(said(1n), started(), ended(2n))],
  ['an exit before the start', telling(ended(1n))],
  ['nothing at all', telling()],
  ['a start only', telling(started())],
  ['output without an exit', telling(started(), said(1n))],
  ['process id 0', telling(started(0), ended(1n))],
  ['a process id that Linux does not have', telling(started(2 ** 22 + 1), ended(1n))],
  ['two starts', telling(started(), started(8), ended(1n))],
  ['a number that was left out', telling(started(), said(1n), said(3n), ended(4n))],
  ['a number twice', telling(started(), said(1n), said(1n), ended(2n))],
  ['a number that goes back', telling(started(), said(1n), said(2n), said(1n), ended(2n))],
  ['numbers that begin late', telling(started(), said(2n), ended(3n))],
  ['a number that stops', telling(started(), said(1n), said(0n), ended(2n))],
  ['a number that wraps', telling(started(), said(2n ** 64n - 1n), ended(0n))],
  ['output behind the exit', telling(started(), ended(1n), said(2n))],
  ['two exits', telling(started(), ended(1n), ended(2n))],
  ['an event of a mebibyte', telling(started(), said(1n, Buffer.alloc(MiB)), ended(2n))],
  ['an event of five mebibytes', telling(started(), said(1n, Buffer.alloc(5 * MiB)), ended(2n))],
  ['no protobuf', answering([framed(Buffer.from('\x0f\xff no protobuf'))])],
  ['text that is no UTF-8', answering([framed(Buffer.from([0x0a, 6, 0x1a, 4, 0x1a, 2, 0xff, 0xfe]))])],
  ['fields of another type', answering([framed(Buffer.from([0x08, 1]))])],
  ['a message that ends early', answering([framed(Buffer.from([0x0a]), 100)])],
  ['a message of four gibibytes', answering([framed(Buffer.from([0x0a]), 2 ** 32 - 1)])],
  ['a message compressed with nothing', answering([Buffer.concat([Buffer.from([1]), message(started()).subarray(1)])])],
  ['a failure without a code', answering([message(started())], { 'grpc-status': 'none' })],
  ['a code that does not exist', answering([message(started())], { 'grpc-status': '99' })],
  ['a success in words', answering([message(started())], { 'grpc-message': 'ok' })],
  [
    'details that are none',
    answering([message(started())], {
      'grpc-status': '13',
      'grpc-status-details-bin': Buffer.from('x').toString('base64'),
    }),
  ],
  ['a reset for an error of its own', (stream) => stream.close(2)],
  ['no gRPC', (stream) => stream.respond({ ':status': 200, 'content-type': 'text/html' }) ?? stream.end('<html>')],
];

test.each(lies)('an agent that tells %s has misbehaved', async (_what, lie) => {
  const served = await serve(lie);
  await expect(served.started()).rejects.toMatchObject({ reason: 'AGENT_MISBEHAVED' });
  await leavesNothing(served);
});

test.each(lies)('and an exec by it is no success: %s', async (_what, lie) => {
  const served = await serve(lie);
  const outcome = served.client.exec({ sandboxId, process: process_ }, soon());
  await expect(outcome).rejects.toMatchObject({ reason: 'AGENT_MISBEHAVED' });
  await leavesNothing(served);
});

// grpc-js takes a missing answer for a method that is missing, and waits where there is a second one.
test.each<[what: string, reason: Reason, lie: Lie]>([
  ['nothing', 'UNIMPLEMENTED', answering([])],
  ['half a message', 'UNIMPLEMENTED', answering([framed(Buffer.alloc(3), 10)])],
  ['two answers', 'DEADLINE_EXCEEDED', answering([framed(Buffer.alloc(0)), framed(Buffer.alloc(0))])],
  ['no protobuf', 'AGENT_MISBEHAVED', answering([framed(Buffer.from([0x0f, 0xff]))])],
  ['text that is no UTF-8', 'AGENT_MISBEHAVED', answering([framed(Buffer.from([0x0a, 4, 0x1a, 2, 0xff, 0xfe]))])],
  ['a failure of its own', 'AGENT_MISBEHAVED', answering([], { 'grpc-status': '13' })],
])('a question that is answered with %s fails with %s, in time', async (_what, reason, lie) => {
  const served = await serve(lie);
  await expect(served.client.list({ sandboxId }, inMs(1000))).rejects.toMatchObject({ reason });
  await leavesNothing(served);
});

const breaks: [what: string, lie: Lie][] = [
  ['cancels the stream', (stream) => stream.close(8)],
  ['says that it was cancelled', answering([], { 'grpc-status': '1' })],
  ['is going away', answering([], { 'grpc-status': '14' })],
  ['dies', (stream) => void stream.session?.socket.destroy()],
  ['answers from a proxy of its own', (stream) => stream.respond({ ':status': 503 }) ?? stream.end()],
];

test.each(breaks)('an agent that %s in the midst is unreachable', async (_what, broken) => {
  for (const isBegun of [false, true]) {
    const served = await serve((stream, headers) => {
      if (!isBegun || headers[':path'] !== '/process.Process/Start') return broken(stream, headers);
      beginAnswer(stream);
      stream.write(message(started()), () => stream.session?.socket.destroy());
    });
    await expect(served.started()).rejects.toMatchObject({ reason: 'AGENT_UNREACHABLE' });
    await leavesNothing(served);
  }
});

test('a reconnect is held to the number it asked for', async () => {
  const connectAfter = async (afterSequence: bigint | undefined, ...events: Event[]) => {
    const served = await serve(telling(...events));
    const selector = { selector: { case: 'pid' as const, value: 7 } };
    const request = { sandboxId, process: selector, ...(afterSequence !== undefined && { afterSequence }) };
    const told = await Array.fromAsync(served.client.connect(request));
    return told.map(({ event }) => event?.sequence);
  };
  expect(await connectAfter(41n, started(), said(42n), ended(43n))).toEqual([0n, 42n, 43n]);
  expect(await connectAfter(43n, started(), ended(43n))).toEqual([0n, 43n]);
  expect(await connectAfter(undefined, started(), said(9n), ended(10n))).toEqual([0n, 9n, 10n]);
  expect(await connectAfter(undefined, started(), ended(10n))).toEqual([0n, 10n]);
  expect(await connectAfter(undefined, started(), said(0n), ended(0n))).toEqual([0n, 0n, 0n]);
  const misbehaved = { reason: 'AGENT_MISBEHAVED' };
  await expect(connectAfter(41n, started(), said(41n), ended(42n))).rejects.toMatchObject(misbehaved);
  await expect(connectAfter(41n, started(), said(43n), ended(44n))).rejects.toMatchObject(misbehaved);
  await expect(connectAfter(41n, started(), ended(41n), said(42n))).rejects.toMatchObject(misbehaved);
});

test('what it says of an error is neither taken for the mesh’s own nor shown as it is', async () => {
  const forged = Buffer.from(statusDetails(new WrennError('QUOTA_EXCEEDED', 'pay'))).toString('base64');
  const trailers = {
    'grpc-status': '8',
    'grpc-message': encodeURIComponent(`pay \u001b]0 evil\u0007${'x'.repeat(3000)}`),
    'grpc-status-details-bin': forged,
  };
  const served = await serve(answering([], trailers));
  const outcome = served.client.list({ sandboxId }, soon());
  const refusal = (await outcome.catch((error: unknown) => error)) as WrennError;
  expect(refusal.reason).toBe('MESSAGE_TOO_LARGE');
  expect(refusal.message).toContain('pay ?]0 evil?xxx');
  expect(refusal.message.length).toBeLessThan(1200);
  await leavesNothing(served);
});

describe('an agent that never answers', () => {
  const silent: [what: string, lie: Lie][] = [
    ['to a call', () => undefined],
    ['with a message', (stream) => beginAnswer(stream)],
    [
      'with anything but signs of life',
      (stream) => floodWith(stream, () => message({ event: { case: 'keepalive', value: {} } })),
    ],
  ];
  test.each(silent)('costs a stream no more than the limit of a start: %s', async (_what, lie) => {
    const served = await serve(lie);
    await expect(served.started()).rejects.toMatchObject({ reason: 'AGENT_UNREACHABLE' });
    await leavesNothing(served);
  });

  test('costs each call no more than its deadline', async () => {
    const served = await serve(() => undefined);
    const target = { sandboxId, process: { selector: { case: 'pid' as const, value: 7 } } };
    const calls: ((call: OutboundCall) => Promise<unknown>)[] = [
      (call) => served.client.list({ sandboxId }, call),
      (call) => served.client.signal({ ...target, signal: 9 }, call),
      (call) => served.client.sendInput({ ...target, data: Buffer.from('x') }, call),
      (call) => served.client.closeStdin(target, call),
    ];
    const startedAtMs = Date.now();
    const outcomes = await Promise.allSettled(calls.map((call) => call(inMs(300))));
    expect(Date.now() - startedAtMs).toBeLessThan(3000);
    for (const outcome of outcomes) expect(outcome).toMatchObject({ reason: { reason: 'DEADLINE_EXCEEDED' } });
    const init = served.agent.init({ sandboxId, template: 'x', env: {}, defaultUser: '' }, inMs(300));
    await expect(init).rejects.toMatchObject({ reason: 'DEADLINE_EXCEEDED' });
    expect(await served.agent.isAnswering(300)).toBe(false);
    await leavesNothing(served);
  });

  test.each([
    ['says nothing', ''],
    ['is no HTTP/2', 'SSH-2.0-OpenSSH_9.2\r\n'],
  ])('nor does one whose port %s', async (_what, banner) => {
    const sockets = new Set<import('node:net').Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
      socket.resume().write(banner);
    });
    const address = await listenSomewhere(server);
    cleanup.defer(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const { agent, client } = await serveAt(address);
    const startedAtMs = Date.now();
    const outcome = client.list({ sandboxId }, inMs(2000));
    await expect(outcome).rejects.toMatchObject({
      reason: expect.stringMatching(/^(AGENT_UNREACHABLE|DEADLINE_EXCEEDED)$/),
    });
    expect(Date.now() - startedAtMs).toBeLessThan(4000);
    agent.close('VMM_DIED');
    await eventually('no connection is left', () => sockets.size === 0);
  });

  test('an exec that it neither ends nor lets be killed is given up seconds after its timeout', async () => {
    const served = await serve((stream, headers) => {
      if (headers[':path'] !== '/process.Process/Start') return;
      beginAnswer(stream);
      stream.write(message(started()));
    });
    const startedAtMs = Date.now();
    const request = { sandboxId, process: process_, timeout: durationOfMs(200) };
    await expect(served.client.exec(request, inMs(25_000))).rejects.toMatchObject({ reason: 'AGENT_UNREACHABLE' });
    expect(Date.now() - startedAtMs).toBeLessThan(18_000);
    expect(served.liar.calls).toContain('/process.Process/SendSignal');
    await leavesNothing(served);
  }, 30_000);
});

test(
  'an agent that tells what comes by chance is believed only where all of it is sound',
  async () => {
    const dice = new Dice(23);
    let isDamaged = false;
    const served = await serve((stream) => {
      beginAnswer(stream);
      isDamaged = false;
      for (const piece of chanceEvents(dice).map(message)) {
        const damages = dice.chance(0.15);
        isDamaged ||= damages;
        stream.write(damages ? damaged(dice, piece) : piece);
      }
      if (dice.chance(0.1)) stream.close(2);
      else stream.end();
    });
    const counts = { believed: 0, refused: 0 };
    for (let turn = 0; turn < thorough(250); turn++) {
      const outcome = await served.started().catch((error: WrennError) => error.reason);
      if (typeof outcome === 'string') {
        expect(outcome).toBe('AGENT_MISBEHAVED');
        counts.refused += 1;
        continue;
      }
      const cases = outcome.map(({ event }) => event?.event.case);
      expect([cases[0], cases.at(-1)]).toEqual(['started', 'exited']);
      // A byte makes one kind of output another.
      const kinds = isDamaged ? ['stdout', 'stderr', 'terminal'] : ['stdout'];
      expect([...new Set(cases.slice(1, -1)).difference(new Set<string | undefined>(kinds))]).toEqual([]);
      counts.believed += 1;
    }
    expect(Math.min(counts.believed, counts.refused), JSON.stringify(counts)).toBeGreaterThan(20);
    await leavesNothing(served);
  },
  thorough(60_000),
);

// Mostly in order: an agent whose first word is wrong is asked no further.
function chanceEvents(dice: Dice): Event[] {
  const outputs = dice.below(4);
  const events = [started(), ...Array.from({ length: outputs }, (_, i) => said(BigInt(i + 1)))];
  if (dice.chance(0.8)) events.push(ended(BigInt(outputs + 1)));
  if (dice.chance(0.3))
    events.splice(dice.below(events.length + 1), 0, dice.pick([started(), said(1n), ended(1n), {}]));
  return events;
}

function damaged(dice: Dice, piece: Buffer): Buffer {
  const bytes = Buffer.from(piece);
  bytes[dice.below(bytes.length)] = dice.below(256);
  return dice.chance(0.3) ? bytes.subarray(0, dice.below(bytes.length)) : bytes;
}

test('a stream that does not end behind the exit is left with its result', async () => {
  const served = await serve((stream) => {
    beginAnswer(stream);
    for (const event of [started(), said(1n, 'out'), ended(2n, 3)]) stream.write(message(event));
  });
  const events = await served.started();
  expect(events.map(({ event }) => event?.event.case)).toEqual(['started', 'stdout', 'exited']);
  const { exitCode, stdout } = await served.client.exec({ sandboxId, process: process_ }, soon());
  expect([exitCode, Buffer.from(stdout).toString()]).toEqual([3, 'out']);
  await leavesNothing(served);
});

describe('an agent that floods', () => {
  const flood: Lie = (stream, headers) => {
    if (headers[':path'] !== '/process.Process/Start') return answering([framed(Buffer.alloc(0))])(stream, headers);
    let sequence = 0n;
    floodWith(stream, () =>
      message(sequence === 0n && sequence++ === 0n ? started() : said(sequence++, Buffer.alloc(32_768))),
    );
  };

  test('takes neither memory nor the service from others', async () => {
    const served = await serve(flood);
    const neighbour = await serve(telling(started(), ended(1n)));
    const beforeBytes = process.memoryUsage().rss;
    const request = { sandboxId, process: process_, maxOutputBytes: 1000n, timeout: durationOfMs(1000) };
    const flooded = served.client.exec(request, inMs(25_000)).catch((error: unknown) => error);
    await eventually('it floods', () => served.liar.calls.length > 0);
    await neighbour.client.exec({ sandboxId, process: process_ }, soon());
    expect(await flooded).toMatchObject({ reason: 'AGENT_UNREACHABLE' });
    expect(process.memoryUsage().rss - beforeBytes).toBeLessThan(200 * MiB);
    await leavesNothing(served);
  }, 30_000);

  test('is held back while nobody reads', async () => {
    let sentBytes = 0;
    const served = await serve((stream, headers) => {
      stream.on('data', () => undefined);
      const written = stream.write.bind(stream);
      stream.write = ((piece: Buffer) => {
        sentBytes += piece.length;
        return written(piece);
      }) as typeof stream.write;
      flood(stream, headers);
    });
    const leave = new AbortController();
    const events = served.client
      .start({ sandboxId, process: process_ }, { signal: leave.signal })
      [Symbol.asyncIterator]();
    await events.next();
    let beforeBytes = -1;
    await eventually('it stands still', () => {
      const stands = sentBytes === beforeBytes && sentBytes > 0;
      beforeBytes = sentBytes;
      return stands;
    });
    expect(sentBytes).toBeLessThan(16 * MiB);
    leave.abort();
    const rest = Array.fromAsync({ [Symbol.asyncIterator]: () => events });
    await expect(rest).rejects.toMatchObject({ reason: 'CANCELLED' });
    await leavesNothing(served);
  });
});

// Writes as fast as the other side takes it.
function floodWith(stream: import('node:http2').ServerHttp2Stream, next: () => Buffer): void {
  if (!stream.headersSent) beginAnswer(stream);
  const send = () => {
    while (!stream.destroyed) if (!stream.write(next())) return void stream.once('drain', send);
  };
  send();
}

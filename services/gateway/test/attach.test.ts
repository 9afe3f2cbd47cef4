// Calls with streams both ways: routed by their first message, in order, as fast as the slower side, never sent twice.
import { PassThrough } from 'node:stream';

import type { MessageInitShape } from '@bufbuild/protobuf';
import { WrennError } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import type { RpcHandlers } from '@wrenn/kit/rpc-server';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { ProcessService, type ProcessServiceAttachRequestSchema } from '@wrenn/proto/wrenn/v1/process';
import { expect, test } from 'vitest';

import { serveTcp, startGateway } from './mesh-fixture.ts';

type Request = MessageInitShape<typeof ProcessServiceAttachRequestSchema>;
type Attach = RpcHandlers<typeof ProcessService.method>['attach'];

const id = newSandboxId();
const start: Request = { part: { case: 'start', value: { sandboxId: id } } };
const input = (text: string | Uint8Array): Request => ({ part: { case: 'input', value: Buffer.from(text) } });
const output = (value: Uint8Array) => ({ event: { event: { case: 'terminal' as const, value } } });

// Messages to send as the test goes along; it is read no faster than it is sent.
class Messages extends PassThrough {
  constructor(...first: Request[]) {
    super({ objectMode: true });
    for (const message of first) this.write(message);
  }
}

async function meshWith(attach: Attach) {
  const stack = new AsyncDisposableStack();
  const host = stack.use(await serveTcp((serve) => serve(ProcessService, { attach })));
  let resolveCount = 0;
  const reported = new Set<string>();
  const scheduler = stack.use(
    await serveTcp((serve) =>
      serve(SchedulerService, {
        resolveSandbox: async () => {
          resolveCount++;
          return { hostAddress: host.address };
        },
        reportActivity: async ({ sandboxIds }) => {
          for (const sandboxId of sandboxIds) reported.add(sandboxId);
          return {};
        },
      }),
    ),
  );
  const gateway = stack.use(await startGateway(scheduler.address));
  return {
    client: gateway.lanes.client('interactive', ProcessService),
    reported,
    resolveCount: () => resolveCount,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

test('what is sent goes on in order, what is answered comes back while more is sent', async () => {
  await using mesh = await meshWith(async function* echo(requests) {
    for await (const { part } of requests) {
      yield output(part.case === 'input' ? part.value : Buffer.from(`<${part.case}>`));
    }
  });
  const messages = new Messages(start);
  const answers = mesh.client.attach(messages)[Symbol.asyncIterator]();
  const next = async () => Buffer.from((await answers.next()).value?.event?.event.value as Uint8Array).toString();
  expect(await next()).toBe('<start>');
  for (let n = 0; n < 100; n++) {
    messages.write(input(`key ${n}`));
    expect(await next()).toBe(`key ${n}`);
  }
  expect([...mesh.reported]).toEqual([id]);
  messages.end();
  expect((await answers.next()).done).toBe(true);
});

test('the end of what is sent leaves what is answered', async () => {
  const told = Promise.withResolvers<void>();
  await using mesh = await meshWith(async function* attach(requests) {
    const sent = await Array.fromAsync(requests);
    await told.promise;
    yield output(Buffer.from(`${sent.length} messages`));
  });
  const answers = Array.fromAsync(mesh.client.attach(new Messages(start, input('a')).end()));
  told.resolve();
  expect(await answers).toHaveLength(1);
});

test.each<[what: string, messages: Request[]]>([
  ['nothing', []],
  ['input first', [input('x')]],
  ['no part', [{}]],
  ['a malformed sandbox id', [{ part: { case: 'start', value: { sandboxId: 'cl-1' } } }]],
])('a call that begins with %s reaches no host', async (_what, messages) => {
  let isReached = false;
  // oxlint-disable-next-line require-yield -- it must not be reached.
  await using mesh = await meshWith(async function* attach() {
    isReached = true;
  });
  const refused = Array.fromAsync(mesh.client.attach(new Messages(...messages).end()));
  await expect(refused).rejects.toMatchObject({ reason: 'INVALID_FIELD' });
  expect([isReached, mesh.resolveCount()]).toEqual([false, 0]);
});

test('a refusal keeps reason and facts, and the call is not sent again', async () => {
  let callCount = 0;
  // oxlint-disable-next-line require-yield -- it fails before its first event.
  await using mesh = await meshWith(async function* attach() {
    callCount++;
    throw new WrennError('REPLAY_GONE', 'too old', { meta: { oldest_sequence: '7' } });
  });
  const refused = Array.fromAsync(mesh.client.attach(new Messages(start)));
  await expect(refused).rejects.toMatchObject({ reason: 'REPLAY_GONE', meta: { oldest_sequence: '7' } });
  expect(callCount).toBe(1);
});

test('a client that leaves ends the call at the host', async () => {
  let isCut = false;
  await using mesh = await meshWith(async function* attach(_requests, { signal }) {
    yield output(Buffer.from('here'));
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    isCut = true;
  });
  const leave = new AbortController();
  const answers = mesh.client.attach(new Messages(start), { signal: leave.signal })[Symbol.asyncIterator]();
  await answers.next();
  expect(isCut).toBe(false);
  leave.abort();
  await expect(answers.next()).rejects.toMatchObject({ reason: 'CANCELLED' });
  await eventually('the host sees it', () => isCut);
});

test('a host that takes no input holds up who sends it, and nobody else; then gets all of it', async () => {
  const piece = Buffer.alloc(64 * 1024, 'x');
  const pieceCount = 200;
  const reads = Promise.withResolvers<void>();
  await using mesh = await meshWith(async function* attach(requests) {
    const messages = requests[Symbol.asyncIterator]();
    await messages.next();
    yield output(Buffer.from('here'));
    await reads.promise;
    let byteCount = 0;
    for (let next = await messages.next(); !next.done; next = await messages.next()) {
      if (next.value.part.case === 'input') byteCount += next.value.part.value.length;
    }
    yield output(Buffer.from(`${byteCount} bytes`));
  });
  let sentCount = 0;
  async function* sending() {
    yield start;
    for (; sentCount < pieceCount; sentCount++) yield input(piece);
  }
  const answers = mesh.client.attach(sending())[Symbol.asyncIterator]();
  await answers.next();
  let beforeCount = -1;
  await eventually('the sender is held up', async () => {
    const stands = sentCount === beforeCount;
    beforeCount = sentCount;
    const other = mesh.client.attach(new Messages(start))[Symbol.asyncIterator]();
    expect((await other.next()).done).toBe(false);
    await other.return?.();
    return stands;
  });
  expect(sentCount).toBeLessThan(pieceCount / 2);
  reads.resolve();
  const { value } = await answers.next();
  expect(Buffer.from(value?.event?.event.value as Uint8Array).toString()).toBe(`${pieceCount * piece.length} bytes`);
});

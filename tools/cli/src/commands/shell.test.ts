// The shell command as a person has it: in a real terminal, joined to a terminal that a stand-in for the gateway has.
import { join } from 'node:path';

import type { MessageInitShape } from '@bufbuild/protobuf';
import { WrennError } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import { openLog } from '@wrenn/kit/log';
import { type RpcHandlers, RpcServer } from '@wrenn/kit/rpc-server';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { partialHandlers } from '@wrenn/kit/testkit/partial';
import { PseudoTerminal } from '@wrenn/kit/testkit/pseudo-terminal';
import { ProcessService, type ProcessServiceAttachResponseSchema } from '@wrenn/proto/wrenn/v1/process';
import { SandboxService, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { repositoryRoot } from '../mesh/options.ts';

type Attach = RpcHandlers<typeof ProcessService.method>['attach'];

type Answer = MessageInitShape<typeof ProcessServiceAttachResponseSchema>;

const id = newSandboxId();
const wrenn = join(repositoryRoot, 'tools/cli/bin/wrenn');
const started = { event: { event: { case: 'started' as const, value: { pid: 7 } } } };
const shown = (sequence: bigint, text: string) => ({
  event: { sequence, event: { case: 'terminal' as const, value: Buffer.from(text) } },
});
const exited = (sequence: bigint, exitCode: number) => ({
  event: { sequence, event: { case: 'exited' as const, value: { exitCode } } },
});

// One terminal that shows its keys in brackets, `q` ends it with code 5, and notes what it is told.
class StandIn {
  readonly notes: string[] = [];
  tags: string[] = [];
  state: SandboxState = SandboxState.RUNNING;
  attach: Attach = (requests) => this.echo(requests);
  sequence = 0n;
  server: RpcServer | undefined;
  port = 0;

  async *echo(
    requests: AsyncIterable<{ part: { case?: string | undefined; value?: unknown } }>,
  ): AsyncGenerator<Answer> {
    for await (const { part } of requests) {
      if (part.case === 'start') {
        const { terminal, size, afterSequence } = part.value as {
          terminal?: { case: string };
          size?: { columns: number; rows: number };
          afterSequence?: bigint;
        };
        this.notes.push(`${terminal?.case} ${size?.columns}x${size?.rows} ${afterSequence}`);
        yield started;
        if (terminal?.case === 'newTerminal') yield shown(++this.sequence, 'welcome\r\n');
        continue;
      }
      const keys = Buffer.from(part.value as Uint8Array).toString();
      yield shown(++this.sequence, `<${keys}>`);
      if (keys === 'q') return yield exited(++this.sequence, 5);
    }
  }

  async listen(): Promise<void> {
    const server = new RpcServer({ log: openLog('test', 'silent'), drainMs: 10 });
    this.server = server;
    const processes: Partial<RpcHandlers<typeof ProcessService.method>> = {
      attach: (requests, call) => this.attach(requests, call),
      list: async () => ({ processes: this.tags.map((tag) => ({ pid: 7, tag })) }),
      resize: async ({ size }) => {
        this.notes.push(`resize ${size?.columns}x${size?.rows}`);
        return {};
      },
    };
    server.add(ProcessService, partialHandlers(ProcessService, processes));
    server.add(
      SandboxService,
      partialHandlers(SandboxService, { get: async () => ({ sandbox: { id, state: this.state } }) }),
    );
    this.port = await server.listen(`127.0.0.1:${this.port}`);
    server.ready();
  }
}

let standIn: StandIn;
let cleanup: AsyncDisposableStack;
beforeEach(async () => {
  cleanup = new AsyncDisposableStack();
  standIn = new StandIn();
  await standIn.listen();
  cleanup.defer(async () => standIn.server?.close());
});
afterEach(() => cleanup.disposeAsync());

const shell = (...args: string[]) =>
  cleanup.use(new PseudoTerminal([wrenn, 'shell', id, '--gateway', `127.0.0.1:${standIn.port}`, ...args], {}, 100, 30));

test('every key reaches it as it is, the exit code comes back, the terminal is left as it was', async () => {
  const terminal = shell();
  await terminal.until('welcome');
  terminal.type('\u0003');
  await terminal.until('<\u0003>');
  terminal.type('é');
  await terminal.until('<é>');
  terminal.type('q');
  expect(await terminal.ended).toEqual({ exitCode: 5, modes: 'cooked' });
  expect(standIn.notes).toEqual(['newTerminal 100x30 undefined']);
});

test('the terminal there is made as large as the one here, whenever that changes', async () => {
  const terminal = shell();
  await terminal.until('welcome');
  terminal.resize(132, 43);
  await eventually('it is told', () => standIn.notes.includes('resize 132x43'));
  terminal.type('q');
  await terminal.ended;
});

test('the detach keys leave it and say how to come back; the next call does', async () => {
  const left = shell('--tag', 'work');
  await left.until('welcome');
  left.type('\r');
  await left.until('<\r>');
  left.type('~.');
  expect(await left.ended).toEqual({ exitCode: 0, modes: 'cooked' });
  expect(left.shown).toContain(`wrenn shell ${id} --tag work`);
  standIn.tags = ['work'];
  const back = shell('--tag', 'work');
  await eventually('it is attached', () => standIn.notes.length === 2);
  back.type('q');
  expect((await back.ended).exitCode).toBe(5);
  expect(standIn.notes).toEqual(['newTerminal 100x30 undefined', 'existing 100x30 undefined']);
});

test.each([15, 1])('signal %i leaves it too, with the terminal as it was', async (number) => {
  standIn.attach = async function* attach(requests): AsyncGenerator<Answer> {
    yield started;
    yield shown(1n, '\u001b[?1049h\u001b[?1000heditor');
    await Array.fromAsync(requests);
  };
  const terminal = shell();
  await terminal.until('editor');
  terminal.signal(number);
  expect(await terminal.ended).toEqual({ exitCode: 128 + number, modes: 'cooked' });
  expect(terminal.shown).toContain('\u001b[?1049l');
});

test('a connection that is lost is made anew, goes on behind what was seen, and loses no key typed meanwhile', async () => {
  const terminal = shell();
  await terminal.until('welcome');
  terminal.type('a');
  await terminal.until('<a>');
  await standIn.server?.close();
  await terminal.until('connection lost');
  terminal.type('bc');
  await standIn.listen();
  await terminal.until('<bc>');
  terminal.type('q');
  expect((await terminal.ended).exitCode).toBe(5);
  expect(standIn.notes).toEqual(['newTerminal 100x30 undefined', 'existing 100x30 2']);
});

test('Ctrl-C gives up a connection that is lost', async () => {
  const terminal = shell();
  await terminal.until('welcome');
  await standIn.server?.close();
  standIn.server = undefined;
  await terminal.until('connection lost');
  terminal.type('\u0003');
  expect(await terminal.ended).toEqual({ exitCode: 69, modes: 'cooked' });
});

test('of a sandbox that was paused nothing is asked that would resume it, until a key is pressed', async () => {
  const paused = Promise.withResolvers<void>();
  let callCount = 0;
  standIn.attach = async function* attach(requests): AsyncGenerator<Answer> {
    callCount++;
    if (callCount > 1) return yield* standIn.echo(requests);
    yield started;
    yield shown(++standIn.sequence, 'welcome');
    await paused.promise;
    throw new WrennError('SANDBOX_PAUSED', 'paused');
  };
  const terminal = shell();
  await terminal.until('welcome');
  standIn.state = SandboxState.PAUSED;
  paused.resolve();
  await terminal.until('the sandbox is paused');
  expect(callCount).toBe(1);
  terminal.type('x');
  await terminal.until('<x>');
  terminal.type('q');
  expect((await terminal.ended).exitCode).toBe(5);
});

test('what is not kept any more is made up for by a picture', async () => {
  let callCount = 0;
  const seen: unknown[] = [];
  standIn.attach = async function* attach(requests): AsyncGenerator<Answer> {
    const first = (await requests[Symbol.asyncIterator]().next()).value as {
      part: { value: { afterSequence?: bigint } };
    };
    seen.push(first.part.value.afterSequence);
    callCount++;
    if (callCount === 2) throw new WrennError('REPLAY_GONE', 'gone');
    yield started;
    if (callCount === 1) {
      yield shown(9n, 'before');
      throw new WrennError('SERVICE_UNAVAILABLE', 'a service is down');
    }
    const contents = Buffer.from('a picture');
    yield { event: { sequence: 5000n, event: { case: 'screen', value: { contents } } } };
    yield exited(5001n, 0);
  };
  const terminal = shell();
  await terminal.until('a picture');
  expect((await terminal.ended).exitCode).toBe(0);
  expect(seen).toEqual([undefined, 9n, undefined]);
});

test('without a terminal, or without a sandbox, it says what to do instead', async () => {
  await expect(runProgram(wrenn, ['shell', id])).rejects.toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining('wrenn exec'),
  });
  const nameless = cleanup.use(new PseudoTerminal([wrenn, 'shell']));
  expect((await nameless.ended).exitCode).toBe(2);
  expect(nameless.shown).toContain('--template');
});

// Terminals in real microVMs: they stay crisp, lose nothing, and outlive all that carries them.
import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { repositoryRoot } from '@wrenn/cli/mesh/options';
import type { ServiceName } from '@wrenn/cli/mesh/options';
import { inMs } from '@wrenn/kit/deadlines';
import { signalProcess } from '@wrenn/kit/process-identity';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { PseudoTerminal } from '@wrenn/kit/testkit/pseudo-terminal';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import type { Guest } from '../src/guest.ts';
import { Terminal, newTerminal, tagged } from '../src/terminal.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';
import { verdictOf } from '../src/wire.ts';

const mesh = useMesh();
let guest: Guest;
let cleanup: AsyncDisposableStack;
let tagCount = 0;
beforeAll(async () => {
  guest = await mesh.now.create();
});
beforeEach(() => void (cleanup = new AsyncDisposableStack()));
afterEach(() => cleanup.disposeAsync());

type Start = ConstructorParameters<typeof Terminal>[1];
const size = { columns: 100, rows: 30 };
const newTag = () => `t${++tagCount}`;

function attach(start: Omit<Start, '$typeName' | 'sandboxId'>, sandboxId = guest.id): Terminal {
  return cleanup.use(new Terminal(mesh.now.client, { sandboxId, size, ...start } as Start));
}

// With a prompt that is easily told from what it runs.
async function openShell(tag = newTag(), sandboxId = guest.id) {
  const shell = attach({ terminal: newTerminal(tag, '/bin/sh', '-c', "PS1='% ' exec sh -i") }, sandboxId);
  await shell.until('% ');
  return { shell, tag };
}

test('a shell: its size, its keys, Ctrl-C, signals to the foreground, its exit', async () => {
  const { shell } = await openShell();
  await shell.type('stty size\n');
  await shell.until('30 100\r\n');
  await shell.resize(132, 43);
  await shell.type('stty size\n');
  await shell.until('43 132\r\n');
  await shell.type('sleep 1000\n');
  await eventually('it sleeps', async () => (await guest.count('sleep 1000')) === 1);
  await shell.type('\u0003');
  await eventually('Ctrl-C has ended it', async () => (await guest.count('sleep 1000')) === 0);
  await shell.type('sleep 2000\n');
  await eventually('it sleeps', async () => (await guest.count('sleep 2000')) === 1);
  await shell.signal(15);
  await eventually('the signal has ended it', async () => (await guest.count('sleep 2000')) === 0);
  await shell.type('exit 7\n');
  await shell.ended;
  expect(shell.exitCode).toBe(7);
});

test('an editor: keys, its whole screen for who comes later, at the size of that one', async () => {
  await guest.sh('for i in 1 2 3 4 5; do echo "line $i of a file"; done > /tmp/edited');
  const tag = newTag();
  const editor = attach({ terminal: newTerminal(tag, 'vi', '/tmp/edited') });
  await editor.until('line 5 of a file');
  await editor.type('ddiwritten \u001b');
  await editor.until('written');
  const later = attach({ terminal: tagged(tag), size: { columns: 60, rows: 12 } });
  await eventually('it is painted', () => later.screen?.includes('written'));
  expect(later.screen).toContain('line 3 of a file');
  expect(later.screen).not.toContain('line 1 of a file');
  await later.type(':wq\r');
  await Promise.all([editor.ended, later.ended]);
  expect([editor.exitCode, later.exitCode]).toEqual([0, 0]);
  expect((await guest.sh('head -1 /tmp/edited')).trim()).toBe('written line 2 of a file');
});

test('many viewers see the same, and all may type', async () => {
  const { shell, tag } = await openShell();
  const viewers = Array.from({ length: 8 }, () => attach({ terminal: tagged(tag) }));
  await Promise.all(viewers.map((viewer) => eventually('it is painted', () => viewer.screen?.includes('% '))));
  for (const [n, viewer] of viewers.entries()) {
    await viewer.type(`echo from-$((${n}))\n`);
    await shell.until(`from-${n}\r\n`);
  }
  await shell.type('exit\n');
  await Promise.all([shell, ...viewers].map((viewer) => viewer.ended));
  for (const viewer of viewers) {
    for (const n of viewers.keys()) expect(viewer.text).toContain(`from-${n}\r\n`);
    expect(viewer.sequence).toBe(shell.sequence);
  }
});

test('a viewer that does not read slows the program, and then has missed nothing', async () => {
  const tag = newTag();
  const script =
    'stty -echo -opost; echo ready; read go; i=0; while [ $i -lt 40 ]; do head -c 100000 /dev/zero | tr "\\0" x; i=$((i+1)); echo $i > /tmp/written; done; echo over';
  const quick = attach({ terminal: newTerminal(tag, '/bin/sh', '-c', script) });
  await quick.until('ready\n');
  const slow = attach({ terminal: tagged(tag) });
  await eventually('it is attached', () => slow.screen !== undefined);
  const goOn = slow.standStill();
  await quick.type('\n');
  let before = '';
  await eventually(
    'the program stands still',
    async () => {
      const written = await guest.sh('cat /tmp/written 2>/dev/null || true');
      const stands = written !== '' && written === before;
      before = written;
      return stands;
    },
    60_000,
  );
  expect(Number(before)).toBeLessThan(40);
  goOn();
  await Promise.all([slow.ended, quick.ended]);
  for (const viewer of [slow, quick]) {
    expect(viewer.failure).toBeUndefined();
    const written = viewer.text.replace('ready\n', '');
    expect([written.length, written.slice(-5)]).toEqual([4_000_005, 'over\n']);
  }
});

test('random bytes pass through a raw terminal as they are, in order, both ways', async () => {
  const bytes = randomBytes(2 ** 20);
  const digest = createHash('sha256').update(bytes).digest('hex');
  const script = 'stty raw -echo; echo ready; head -c 1048576 | tee /tmp/received';
  const terminal = attach({ terminal: newTerminal(newTag(), '/bin/sh', '-c', script) });
  const from = await terminal.until('ready\n');
  for (let at = 0; at < bytes.length; at += 10_000) await terminal.type(bytes.subarray(at, at + 10_000));
  await terminal.ended;
  expect(terminal.failure).toBeUndefined();
  expect((await guest.sh('sha256sum < /tmp/received')).slice(0, 64)).toBe(digest);
  expect(createHash('sha256').update(terminal.output.subarray(from)).digest('hex')).toBe(digest);
});

test.each<[what: string, services: ServiceName[]]>([
  ['the gateway', ['gateway']],
  ['vm-runtime', ['vm-runtime']],
])('goes on behind what was seen, and shows its screen, after %s was killed', async (_what, services) => {
  const { shell, tag } = await openShell();
  await shell.type('echo before-$((1))\n');
  await shell.until('before-1\r\n% ');
  for (const name of services) {
    const victim = mesh.now.mesh.service(name).running!;
    signalProcess(victim, 'SIGKILL');
    await shell.ended;
    expect(shell.failure).toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
    await eventually(
      'another one runs',
      () => (mesh.now.mesh.service(name).running?.pid ?? victim.pid) !== victim.pid,
      20_000,
    );
  }
  await eventually('it is served again', () => guest.sh('echo here'), 30_000);
  const back = attach({ terminal: tagged(tag), afterSequence: shell.sequence });
  await back.type('echo after-$((2))\n');
  await back.until('after-2\r\n');
  expect(back.text).not.toContain('before-1');
  const anew = attach({ terminal: tagged(tag) });
  await eventually('it is painted', () => anew.screen?.includes('before-1') && anew.screen.includes('after-2'));
  await anew.type('exit\n');
  await anew.ended;
  expect(anew.exitCode).toBe(0);
});

test('a pause ends the stream with its reason; after the resume the terminal goes on', async () => {
  const paused = await mesh.now.create();
  const { shell, tag } = await openShell(newTag(), paused.id);
  await shell.type('kept=value-$((3)); echo $kept\n');
  await shell.until('value-3\r\n');
  await paused.pause();
  await shell.ended;
  expect(shell.failure).toMatchObject({ reason: 'SANDBOX_PAUSED' });
  const refused = attach({ terminal: tagged(tag) }, paused.id);
  await refused.ended;
  expect(refused.failure).toMatchObject({ reason: 'SANDBOX_NOT_RUNNING', meta: { state: 'paused' } });
  await paused.resume();
  const back = attach({ terminal: tagged(tag) }, paused.id);
  await eventually('it is painted', () => back.screen?.includes('value-3'));
  await back.type('echo still $kept\n');
  await back.until('still value-3\r\n');
  await paused.destroy();
});

describe('refusals', () => {
  const start = (value: object) => ({
    part: { case: 'start' as const, value: { sandboxId: guest.id, ...value } as never },
  });
  const fresh = { terminal: newTerminal('', 'cat') };
  const pid = (value: number) => ({ case: 'existing' as const, value: { selector: { case: 'pid' as const, value } } });

  test.each<
    [what: string, messages: () => Parameters<typeof verdictOf>[2][], code: string, reason: string, meta?: object]
  >([
    ['no message', () => [], 'INVALID_ARGUMENT', 'INVALID_FIELD', { field: 'start' }],
    [
      'input first',
      () => [{ part: { case: 'input', value: Buffer.from('x') } }],
      'INVALID_ARGUMENT',
      'INVALID_FIELD',
      { field: 'start' },
    ],
    ['a second start', () => [start(fresh), start(fresh)], 'INVALID_ARGUMENT', 'INVALID_FIELD', { field: 'start' }],
    [
      'no rows',
      () => [start({ ...fresh, size: { columns: 1, rows: 0 } })],
      'INVALID_ARGUMENT',
      'INVALID_FIELD',
      { field: 'size.rows' },
    ],
    [
      'too many columns',
      () => [start({ ...fresh, size: { columns: 65_536, rows: 1 } })],
      'INVALID_ARGUMENT',
      'INVALID_FIELD',
      { field: 'size.columns' },
    ],
    ['an unknown tag', () => [start({ terminal: tagged('nobody') })], 'NOT_FOUND', 'PROCESS_NOT_FOUND'],
    ['an unknown pid', () => [start({ terminal: pid(4_000_000) })], 'NOT_FOUND', 'PROCESS_NOT_FOUND'],
    [
      'an unknown command',
      () => [start({ terminal: newTerminal('', 'nothing-like-it') })],
      'NOT_FOUND',
      'COMMAND_NOT_FOUND',
    ],
    [
      'a number that is not kept',
      () => [start({ terminal: tagged('kept'), afterSequence: 10n ** 9n })],
      'OUT_OF_RANGE',
      'REPLAY_GONE',
    ],
  ])('%s', async (_what, messages, code, reason, meta = {}) => {
    const kept = attach({ terminal: newTerminal('kept', 'cat') });
    await eventually('it runs', () => kept.pid > 0);
    const address = mesh.now.mesh.addresses.gateway;
    const verdict = await verdictOf(address, ProcessService.method.attach, ...(messages() as never[]));
    expect(verdict).toMatchObject({ code, reason, meta });
    await kept.signal(9);
    await kept.ended;
  });

  test('a process without a terminal is told from one with', async () => {
    const { processes } = mesh.now.client;
    const process = { command: 'sleep', args: ['600'] };
    const plain = processes.start({ sandboxId: guest.id, process, tag: 'plain' })[Symbol.asyncIterator]();
    await plain.next();
    const { shell, tag } = await openShell();
    const refused = attach({ terminal: tagged('plain') });
    await refused.ended;
    expect(refused.failure).toMatchObject({ reason: 'NOT_A_TERMINAL' });
    const target = { sandboxId: guest.id, process: tagged('plain').value };
    await expect(processes.resize({ ...target, size }, inMs(10_000))).rejects.toMatchObject({
      reason: 'NOT_A_TERMINAL',
    });
    const listed = (await processes.list({ sandboxId: guest.id }, inMs(10_000))).processes;
    expect(listed.find((one) => one.tag === 'plain')?.isTerminal).toBe(false);
    expect(listed.find((one) => one.tag === tag)?.isTerminal).toBe(true);
    await processes.signal({ ...target, signal: 9 }, inMs(10_000));
    await shell.type('exit\n');
    await shell.ended;
  });

  test('the unary calls reach a terminal that takes no keys', async () => {
    const tag = newTag();
    const deaf = attach({
      terminal: newTerminal(
        tag,
        '/bin/sh',
        '-c',
        'stty raw -echo; echo deaf; trap "stty size" WINCH; while :; do sleep 0.1; done',
      ),
    });
    await deaf.until('deaf');
    // More than the terminal and all buffers on the way hold.
    for (let i = 0; i < 2; i++) void deaf.type(Buffer.alloc(2 ** 21, 'x'));
    for (let i = 0; i < 64; i++) void deaf.type(Buffer.alloc(2 ** 17, 'x'));
    await eventually('no more of it moves', async () => {
      const before = deaf.typedCount;
      await sleep(1000);
      return before > 0 && deaf.typedCount === before;
    });
    const target = { sandboxId: guest.id, process: tagged(tag).value };
    await mesh.now.client.processes.resize({ ...target, size: { columns: 77, rows: 22 } }, inMs(10_000));
    await deaf.until('22 77');
    await mesh.now.client.processes.signal({ ...target, signal: 9 }, inMs(10_000));
    await deaf.ended;
    expect(deaf.exitCode).toBe(137);
  });
});

test('who leaves without a word leaves the terminal as it is', async () => {
  const { shell, tag } = await openShell();
  await shell.type('sleep 3000\n');
  await eventually('it sleeps', async () => (await guest.count('sleep 3000')) === 1);
  await shell[Symbol.asyncDispose]();
  const back = attach({ terminal: tagged(tag) });
  await eventually('it is painted', () => back.screen?.includes('sleep 3000'));
  expect(await guest.count('sleep 3000')).toBe(1);
  await back.type('\u0003exit\n');
  await back.ended;
});

test('wrenn shell: in a terminal, through the death of the gateway, left and come back to', async () => {
  const wrenn = join(repositoryRoot, 'tools/cli/bin/wrenn');
  const { gateway } = mesh.now.mesh.addresses;
  const shell = () =>
    cleanup.use(
      new PseudoTerminal([wrenn, 'shell', guest.id, '--tag', 'mine', '--gateway', gateway, '--', 'sh'], {}, 90, 20),
    );
  const first = shell();
  first.type('stty size\r');
  await first.until('20 90');
  first.resize(120, 40);
  await eventually('the size is passed on', async () => {
    first.type('stty size\r');
    await first.until('40 120');
    return true;
  });
  const victim = mesh.now.mesh.service('gateway').running!;
  signalProcess(victim, 'SIGKILL');
  const lost = await first.until('connection lost');
  first.type('echo back-$((4))\r');
  await first.until('back-4', lost);
  first.type('\r~.');
  expect(await first.ended).toEqual({ exitCode: 0, modes: 'cooked' });
  const second = shell();
  await second.until('back-4');
  second.type('exit 9\r');
  expect(await second.ended).toEqual({ exitCode: 9, modes: 'cooked' });
});

test('a client that shares no code with Wrenn attaches as well', async () => {
  const client = join(repositoryRoot, 'tools/e2e/clients/grpc-js/terminal.ts');
  const told = await runProgram(process.execPath, [client, mesh.now.mesh.addresses.gateway, guest.id], {
    timeoutMs: 60_000,
  });
  expect(JSON.parse(told)).toEqual({
    events: ['started', 'terminal', 'exited'],
    echoed: true,
    size: '31 99',
    exitCode: 4,
  });
});

endsWithoutLeaks(mesh);

// Output of background processes: numbered, kept for who comes back, and honest about what is not.
import type { ServiceName } from '@wrenn/cli/mesh/options';
import { inMs } from '@wrenn/kit/deadlines';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { type ProcessEvent, ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { beforeAll, describe, expect, test } from 'vitest';

import type { Guest } from '../src/guest.ts';
import { reasonOf } from '../src/reasons.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';
import { verdictOf } from '../src/wire.ts';

const mesh = useMesh();
let guest: Guest;
beforeAll(async () => {
  guest = await mesh.now.create();
});

const processes = () => mesh.now.client.processes;
const tagged = (tag: string) => ({ sandboxId: guest.id, process: { selector: { case: 'tag', value: tag } } }) as const;
const send = (tag: string, text: string) =>
  processes().sendInput({ ...tagged(tag), data: Buffer.from(text) }, inMs(10_000));

// Starts it, and leaves at once: from then on it runs for nobody. Resolves to its pid.
async function startAlone(tag: string, script: string, hasStdin = true): Promise<number> {
  const leave = new AbortController();
  const process = { command: '/bin/sh', args: ['-c', script] };
  const stream = processes().start({ sandboxId: guest.id, process, tag, hasStdin }, { signal: leave.signal });
  const first = await stream[Symbol.asyncIterator]().next();
  leave.abort();
  const event = first.value?.event?.event;
  if (event?.case !== 'started') throw new Error('the first event is another one');
  return event.value.pid;
}

class Listener {
  readonly sequences: number[] = [];
  text = '';
  exitCode: number | undefined;
  readonly #events: AsyncIterator<{ event?: ProcessEvent | undefined }>;

  constructor(target: Parameters<ReturnType<typeof processes>['connect']>[0]) {
    this.#events = processes().connect(target)[Symbol.asyncIterator]();
  }

  get last(): number {
    return this.sequences.at(-1) ?? 0;
  }

  // False at the end.
  async next(): Promise<boolean> {
    const { done, value } = await this.#events.next();
    if (done) return false;
    const event = value.event;
    if (event?.event.case !== 'started') this.sequences.push(Number(event?.sequence));
    if (event?.event.case === 'stdout') this.text += Buffer.from(event.event.value).toString();
    if (event?.event.case === 'exited') this.exitCode = event.event.value.exitCode;
    return true;
  }

  async until(isEnough: () => boolean): Promise<this> {
    while (!isEnough() && (await this.next()));
    return this;
  }

  readonly toEnd = () => this.until(() => false);
}

const numbersFrom = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);

test('what a process wrote while nobody listened is told to who comes back, by pid or by tag, once and in order', async () => {
  const pid = await startAlone('echoer', 'while read line; do echo "$line"; done; exit 3');
  await send('echoer', 'one\n');
  const first = new Listener({ ...tagged('echoer'), afterSequence: 0n });
  await first.until(() => first.text === 'one\n');
  await send('echoer', 'two\n');
  await send('echoer', 'three\n');
  const process = { selector: { case: 'pid', value: pid } } as const;
  const second = new Listener({ sandboxId: guest.id, process, afterSequence: BigInt(first.last) });
  await second.until(() => second.text === 'two\nthree\n');
  await processes().closeStdin(tagged('echoer'), inMs(10_000));
  await Promise.all([first.toEnd(), second.toEnd()]);
  expect(first).toMatchObject({ text: 'one\ntwo\nthree\n', exitCode: 3 });
  expect(second).toMatchObject({ text: 'two\nthree\n', exitCode: 3 });
  expect(first.sequences).toEqual(numbersFrom(1, first.sequences.length));
  expect(second.sequences[0]).toBe(2);
  expect(second.last).toBe(first.last);
});

test('without a sequence a listener hears what comes from now on', async () => {
  await startAlone('from-now', 'echo before; while read line; do echo "$line"; done');
  const before = new Listener({ ...tagged('from-now'), afterSequence: 0n });
  await before.until(() => before.text === 'before\n');
  const late = new Listener(tagged('from-now'));
  await late.next(); // `started`: it is connected.
  await send('from-now', 'after\n');
  await processes().closeStdin(tagged('from-now'), inMs(10_000));
  expect((await late.toEnd()).text).toBe('after\n');
});

test('several clients at once get everything, each', async () => {
  await startAlone('loud', 'read go; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo "line $i"; done');
  const listeners = numbersFrom(0, 4).map(() => new Listener({ ...tagged('loud'), afterSequence: 0n }));
  await Promise.all(listeners.map((listener) => listener.next()));
  await send('loud', 'go\n');
  await Promise.all(listeners.map((listener) => listener.toEnd()));
  const all = numbersFrom(1, 3000)
    .map((i) => `line ${i}\n`)
    .join('');
  for (const { text, exitCode, sequences } of listeners) {
    expect(text === all).toBe(true);
    expect(exitCode).toBe(0);
    expect(sequences).toEqual(numbersFrom(1, sequences.length));
  }
});

describe('of a process that has ended', () => {
  test('output and exit code can be had for a while, in whole and from its end', async () => {
    await startAlone('short', 'echo said; exit 5', false);
    await eventually('it has ended', async () => {
      const { processes: running } = await processes().list({ sandboxId: guest.id }, inMs(5000));
      return !running.some(({ tag }) => tag === 'short');
    });
    const whole = await new Listener({ ...tagged('short'), afterSequence: 0n }).toEnd();
    expect(whole).toMatchObject({ text: 'said\n', exitCode: 5, sequences: [1, 2] });
    const again = await new Listener({ ...tagged('short'), afterSequence: 2n }).toEnd();
    expect(again).toMatchObject({ text: '', exitCode: 5 });
  });

  test('more output than is kept is gone, which is said with the oldest that can be had; nothing is made up', async () => {
    const total = 3_000_000;
    await startAlone('flood', `read go; head -c ${total} /dev/zero | tr '\\0' x; echo end`);
    await send('flood', 'go\n');
    await eventually('it ends though nobody reads', async () => {
      const { processes: running } = await processes().list({ sandboxId: guest.id }, inMs(5000));
      return !running.some(({ tag }) => tag === 'flood');
    });
    const { gateway } = mesh.now.mesh.addresses;
    const request = { ...tagged('flood'), afterSequence: 0n };
    const verdict = await verdictOf(gateway, ProcessService.method.connect, request);
    expect(verdict).toMatchObject({ code: 'OUT_OF_RANGE', reason: 'REPLAY_GONE' });
    const oldest = Number(verdict.meta['oldest_sequence']);
    expect(oldest).toBeGreaterThan(1);
    const rest = await new Listener({ ...tagged('flood'), afterSequence: BigInt(oldest - 1) }).toEnd();
    expect(rest.exitCode).toBe(0);
    expect(rest.sequences).toEqual(numbersFrom(oldest, rest.sequences.length));
    expect(rest.text.endsWith('xend\n')).toBe(true);
    expect(rest.text.length).toBeLessThanOrEqual(2 ** 20);
    expect(rest.text.length).toBeGreaterThan(2 ** 20 - 2 * 32 * 1024);
  });

  test('a sequence that never was is refused', async () => {
    const reason = reasonOf(new Listener({ ...tagged('flood'), afterSequence: 1_000_000n }).toEnd());
    expect(await reason).toBe('REPLAY_GONE');
  });
});

test.each<ServiceName>(['gateway', 'vm-runtime'])(
  'a client that lost its stream to the death of %s picks it up where it was: nothing twice, nothing missing',
  async (name) => {
    const tag = `through-${name}`;
    await startAlone(tag, 'while read line; do echo "$line"; done');
    await send(tag, 'before\n');
    const first = new Listener({ ...tagged(tag), afterSequence: 0n });
    await first.until(() => first.text === 'before\n');
    const service = mesh.now.mesh.service(name);
    const victim = service.running?.pid ?? 0;
    process.kill(victim, 'SIGKILL');
    expect(await reasonOf(first.next())).not.toMatch(/^none/);
    await eventually('input arrives again', () => send(tag, 'meanwhile\n').then(() => true), 30_000);
    const second = new Listener({ ...tagged(tag), afterSequence: BigInt(first.last) });
    await second.until(() => second.text.includes('meanwhile\n'));
    await send(tag, 'after\n');
    await processes().closeStdin(tagged(tag), inMs(10_000));
    await second.toEnd();
    expect(second).toMatchObject({ text: 'meanwhile\nafter\n', exitCode: 0 });
    expect(second.sequences).toEqual(numbersFrom(first.last + 1, second.sequences.length));
  },
);

endsWithoutLeaks(mesh);

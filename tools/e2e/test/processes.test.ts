import { setImmediate } from 'node:timers/promises';

import { inMs } from '@wrenn/kit/deadlines';
import { eventually } from '@wrenn/kit/testkit/eventually';
import type { ProcessEvent } from '@wrenn/proto/wrenn/v1/process';
import { beforeAll, describe, expect, test } from 'vitest';

import type { Guest } from '../src/guest.ts';
import { reasonOf } from '../src/reasons.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();
let guest: Guest;
beforeAll(async () => {
  guest = await mesh.now.create();
});

const processes = () => mesh.now.client.processes;
const pidOf = (pid: number) => ({ selector: { case: 'pid', value: pid } }) as const;
const tagOf = (tag: string) => ({ selector: { case: 'tag', value: tag } }) as const;
const shell = (script: string) => ({ command: '/bin/sh', args: ['-c', script] });

// Everything a stream says, and what it wrote.
async function collect(stream: AsyncIterable<{ event?: ProcessEvent | undefined }>) {
  const cases: string[] = [];
  const out: Uint8Array[] = [];
  const err: Uint8Array[] = [];
  let exitCode = -1;
  let signal = -1;
  for await (const { event } of stream) {
    const inner = event?.event;
    cases.push(inner?.case ?? 'nothing');
    if (inner?.case === 'stdout') out.push(inner.value);
    if (inner?.case === 'stderr') err.push(inner.value);
    if (inner?.case === 'exited') ({ exitCode, signal } = inner.value);
  }
  return { cases, out: Buffer.concat(out), err: Buffer.concat(err), exitCode, signal };
}

// The pid, and the stream from there on.
async function started(stream: AsyncIterable<{ event?: ProcessEvent | undefined }>) {
  const events = stream[Symbol.asyncIterator]();
  const first = await events.next();
  const inner = first.value?.event?.event;
  if (inner?.case !== 'started') throw new Error(`the first event is ${inner?.case ?? 'missing'}`);
  return { pid: inner.value.pid, rest: { [Symbol.asyncIterator]: () => events } };
}

describe('Exec', () => {
  test('returns output, exit code and duration', async () => {
    const result = await guest.exec('/bin/sh', ['-c', 'echo out; echo err >&2; exit 7']);
    expect(result).toMatchObject({ out: 'out\n', err: 'err\n', exitCode: 7, signal: 0, isTimedOut: false });
    expect(Number(result.duration?.nanos)).toBeGreaterThan(0);
  });

  test('a process is born into the group that stands still during a pause', async () => {
    expect((await guest.exec('/bin/cat', ['/proc/self/cgroup'])).out).toContain('0::/sandbox\n');
  });

  test('honours env, cwd and user', async () => {
    const options = { env: { LANG_: 'C x=y' }, cwd: '/tmp', user: 'nobody' };
    const { out } = await guest.exec('/bin/sh', ['-c', 'echo "$LANG_"; pwd; id -un'], options);
    expect(out).toBe('C x=y\n/tmp\nnobody\n');
  });

  test('brings any bytes through stdin and stdout unchanged', async () => {
    const bytes = Buffer.from(Uint8Array.from({ length: 512 * 1024 }, (_, i) => (i * 7 + (i >> 8)) & 255));
    const result = await guest.exec('cat', [], { stdin: bytes });
    expect(Buffer.compare(Buffer.from(result.stdout), bytes)).toBe(0);
    expect(result.isTruncated).toBe(false);
  });

  test('keeps what came first when output is beyond the cap, and does not kill for it', async () => {
    const script = 'head -c 3000000 /dev/zero; echo end >&2; exit 5';
    const result = await guest.exec('/bin/sh', ['-c', script], { maxOutputBytes: 100_000n });
    expect(result).toMatchObject({ isTruncated: true, exitCode: 5 });
    expect(result.stdout.length + result.stderr.length).toBe(100_000);
  });

  test('kills the whole group at its timeout and still returns the output so far', async () => {
    const script = 'sleep 4321 & echo before; wait';
    const call = guest.exec('/bin/sh', ['-c', script], { timeoutMs: 3000 });
    await eventually('its child runs', async () => (await guest.count('sleep 4321')) === 1);
    const result = await call;
    expect(result).toMatchObject({ isTimedOut: true, out: 'before\n', exitCode: 137, signal: 9 });
    await eventually('no process of the group is left', async () => (await guest.count('sleep 4321')) === 0);
  });

  test('gives a command without stdin an end of file at once', async () => {
    expect((await guest.exec('cat')).exitCode).toBe(0);
  });

  test('kills the command of a client that leaves', async () => {
    const leave = new AbortController();
    const request = { sandboxId: guest.id, process: { command: 'sleep', args: ['5432'] } };
    const call = processes().exec(request, inMs(30_000, leave.signal));
    await eventually('it runs', async () => (await guest.count('sleep 5432')) === 1);
    leave.abort();
    expect(await reasonOf(call)).toBe('CANCELLED');
    await eventually('it is gone', async () => (await guest.count('sleep 5432')) === 0);
  });

  test('runs many commands at once', async () => {
    const results = await Promise.all(Array.from({ length: 20 }, (_, i) => guest.sh(`echo ${i}`)));
    expect(results).toEqual(Array.from({ length: 20 }, (_, i) => String(i)));
  });
});

describe('Start', () => {
  test('says started first, exited last, and every byte in between', async () => {
    const stream = processes().start({ sandboxId: guest.id, process: shell('echo out; echo err >&2; exit 3') });
    const { cases, out, err, exitCode } = await collect(stream);
    expect([cases[0], cases.at(-1)]).toEqual(['started', 'exited']);
    expect({ out: out.toString(), err: err.toString(), exitCode }).toEqual({ out: 'out\n', err: 'err\n', exitCode: 3 });
  });

  test('never loses the early output of a short command', async () => {
    for (let i = 0; i < 100; i++) {
      const { out, exitCode } = await collect(processes().start({ sandboxId: guest.id, process: shell(`echo ${i}`) }));
      expect({ out: out.toString(), exitCode }).toEqual({ out: `${i}\n`, exitCode: 0 });
    }
  });

  test('slows a process down for a slow reader instead of losing its output', async () => {
    const total = 24 * 2 ** 20;
    const process = shell(`head -c ${total} /dev/zero; echo done > /tmp/slow-reader`);
    const { rest } = await started(processes().start({ sandboxId: guest.id, process }));
    // The writer must come to a stop long before its end while nobody reads.
    let seen = '';
    await eventually(
      'the writer stands still',
      async () => {
        const before = seen;
        seen = await guest.sh("awk '/^wchar/ { print $2 }' /proc/$(pidof head)/io");
        for (let turn = 0; turn < 1000; turn++) await setImmediate();
        return seen !== '' && seen === before;
      },
      30_000,
    );
    expect(Number(seen)).toBeLessThan(total);
    expect(await guest.sh('cat /tmp/slow-reader 2>/dev/null || echo not yet')).toBe('not yet');
    const { out, exitCode } = await collect(rest);
    expect({ bytes: out.length, exitCode }).toEqual({ bytes: total, exitCode: 0 });
  });

  test('leaves the process running when its client goes, and Connect picks it up', async () => {
    const leave = new AbortController();
    const process = shell('echo ready; read line; echo "got $line"');
    const stream = processes().start({ sandboxId: guest.id, process, hasStdin: true }, { signal: leave.signal });
    const { pid } = await started(stream);
    leave.abort();
    const connected = await started(processes().connect({ sandboxId: guest.id, process: pidOf(pid) }));
    expect(connected.pid).toBe(pid);
    const line = { sandboxId: guest.id, process: pidOf(pid), data: Buffer.from('it\n') };
    await processes().sendInput(line, inMs(10_000));
    const { out, exitCode } = await collect(connected.rest);
    expect({ out: out.toString().replace('ready\n', ''), exitCode }).toEqual({ out: 'got it\n', exitCode: 0 });
  });

  test('reports the signal that ended a process', async () => {
    const { exitCode, signal } = await collect(
      processes().start({ sandboxId: guest.id, process: shell('kill -TERM $$') }),
    );
    expect({ exitCode, signal }).toEqual({ exitCode: 143, signal: 15 });
  });
});

describe('a running process', () => {
  test('takes input in order until it is closed, by its tag', async () => {
    const stream = processes().start({
      sandboxId: guest.id,
      process: { command: 'cat' },
      tag: 'copier',
      hasStdin: true,
    });
    const { rest } = await started(stream);
    const target = { sandboxId: guest.id, process: tagOf('copier') };
    for (const text of ['one ', 'two ', 'three']) {
      await processes().sendInput({ ...target, data: Buffer.from(text) }, inMs(10_000));
    }
    await processes().closeStdin(target, inMs(10_000));
    const { out, exitCode } = await collect(rest);
    expect({ out: out.toString(), exitCode }).toEqual({ out: 'one two three', exitCode: 0 });
  });

  test('is listed with its tag and command while it runs, and no longer than that', async () => {
    const request = { sandboxId: guest.id, process: { command: 'sleep', args: ['777'] }, tag: 'listed' };
    const { pid, rest } = await started(processes().start(request));
    const { processes: running } = await processes().list({ sandboxId: guest.id }, inMs(10_000));
    expect(running.find((one) => one.pid === pid)).toMatchObject({
      tag: 'listed',
      process: { command: 'sleep', args: ['777'] },
    });
    await processes().signal({ sandboxId: guest.id, process: pidOf(pid), signal: 15 }, inMs(10_000));
    expect(await collect(rest)).toMatchObject({ exitCode: 143, signal: 15 });
    const after = await processes().list({ sandboxId: guest.id }, inMs(10_000));
    expect(after.processes.some((one) => one.pid === pid)).toBe(false);
  });

  test('gets signals together with its whole group', async () => {
    const { pid, rest } = await started(
      processes().start({ sandboxId: guest.id, process: shell('sleep 8765 & sleep 8765 & wait') }),
    );
    await eventually('both run', async () => (await guest.count('sleep 8765')) === 2);
    await processes().signal({ sandboxId: guest.id, process: pidOf(pid), signal: 9 }, inMs(10_000));
    expect(await collect(rest)).toMatchObject({ exitCode: 137, signal: 9 });
    await eventually('none is left', async () => (await guest.count('sleep 8765')) === 0);
  });

  test('means the newest process of equal tags', async () => {
    const request = { sandboxId: guest.id, process: { command: 'sleep', args: ['99'] }, tag: 'shared' };
    const older = await started(processes().start(request));
    const newer = await started(processes().start(request));
    await processes().signal({ sandboxId: guest.id, process: tagOf('shared'), signal: 9 }, inMs(10_000));
    expect(await collect(newer.rest)).toMatchObject({ signal: 9 });
    const { processes: left } = await processes().list({ sandboxId: guest.id }, inMs(10_000));
    expect(left.map(({ pid }) => pid)).toContain(older.pid);
    await processes().signal({ sandboxId: guest.id, process: pidOf(older.pid), signal: 9 }, inMs(10_000));
    await collect(older.rest);
  });
});

describe('errors', () => {
  test.each([
    ['an unknown command', { command: 'no-such-command' }, 'COMMAND_NOT_FOUND'],
    ['an unknown path', { command: '/no/such/file' }, 'COMMAND_NOT_FOUND'],
    ['a file that is no program', { command: '/etc/passwd' }, 'COMMAND_NOT_EXECUTABLE'],
    ['an unknown user', { command: 'id', user: 'stranger' }, 'USER_NOT_FOUND'],
    ['a missing directory', { command: 'pwd', cwd: '/no/such/dir' }, 'CWD_NOT_FOUND'],
    ['a relative directory', { command: 'pwd', cwd: 'tmp' }, 'INVALID_FIELD'],
    ['no command', { command: '' }, 'INVALID_FIELD'],
    ['a NUL', { command: 'a\0b' }, 'INVALID_FIELD'],
    ['a bad variable', { command: 'id', env: { 'A B': 'x' } }, 'INVALID_FIELD'],
  ])('%s is refused by Exec and Start alike', async (_what, process, reason) => {
    const request = { sandboxId: guest.id, process };
    expect(await reasonOf(processes().exec(request, inMs(15_000)))).toBe(reason);
    expect(await reasonOf(collect(processes().start(request)))).toBe(reason);
  });

  test('calls about a process that is not there say so', async () => {
    const target = { sandboxId: guest.id, process: pidOf(99_999) };
    const short = () => inMs(10_000);
    expect(await reasonOf(collect(processes().connect(target)))).toBe('PROCESS_NOT_FOUND');
    expect(await reasonOf(processes().sendInput({ ...target, data: Buffer.from('x') }, short()))).toBe(
      'PROCESS_NOT_FOUND',
    );
    expect(await reasonOf(processes().closeStdin(target, short()))).toBe('PROCESS_NOT_FOUND');
    expect(await reasonOf(processes().signal({ ...target, signal: 9 }, short()))).toBe('PROCESS_NOT_FOUND');
  });

  test('input after the end of input is refused', async () => {
    const { pid, rest } = await started(
      processes().start({ sandboxId: guest.id, process: shell('cat > /dev/null; sleep 60'), hasStdin: true }),
    );
    const target = { sandboxId: guest.id, process: pidOf(pid) };
    await processes().closeStdin(target, inMs(10_000));
    await processes().closeStdin(target, inMs(10_000));
    expect(await reasonOf(processes().sendInput({ ...target, data: Buffer.from('x') }, inMs(10_000)))).toBe(
      'STDIN_CLOSED',
    );
    await processes().signal({ ...target, signal: 9 }, inMs(10_000));
    await collect(rest);
  });

  test('every rpc refuses an unknown sandbox, and one that is over', async () => {
    const gone = await mesh.now.create();
    await gone.destroy();
    for (const [sandboxId, reason] of [
      [`cl-${'0'.repeat(25)}`, 'SANDBOX_NOT_FOUND'],
      [gone.id, 'SANDBOX_NOT_RUNNING'],
      ['nonsense', 'INVALID_FIELD'],
    ] as const) {
      const process = { command: 'id' };
      expect(await reasonOf(processes().exec({ sandboxId, process }, inMs(10_000)))).toBe(reason);
      expect(await reasonOf(collect(processes().start({ sandboxId, process })))).toBe(reason);
      expect(await reasonOf(processes().list({ sandboxId }, inMs(10_000)))).toBe(reason);
    }
  });
});

test('a destroyed sandbox ends the streams into it with an error', async () => {
  const doomed = await mesh.now.create();
  const { rest } = await started(
    processes().start({ sandboxId: doomed.id, process: { command: 'sleep', args: ['600'] } }),
  );
  const ended = reasonOf(collect(rest));
  await doomed.destroy();
  expect(await ended).not.toBe('none: the call succeeded');
});

endsWithoutLeaks(mesh);

// What a guest does to itself: the sandbox that runs out of something lives on, the one that breaks is found out, and
// neither is felt outside of it.
import { readFileSync } from 'node:fs';

import type { MessageInitShape } from '@bufbuild/protobuf';
import { listProcesses } from '@wrenn/cli/proc';
import { takeInventory } from '@wrenn/cli/leak-check/leak-check';
import { inMs } from '@wrenn/kit/deadlines';
import { type ProcessIdentity, identifyProcess, signalProcess } from '@wrenn/kit/process-identity';
import { eventually } from '@wrenn/kit/testkit/eventually';
import type { FilesystemServiceWriteRequestSchema } from '@wrenn/proto/wrenn/v1/filesystem';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { describe, expect, test } from 'vitest';

import type { Guest } from '../src/guest.ts';
import { reasonOf } from '../src/reasons.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();
const MiB = 2 ** 20;
type WriteMessage = MessageInitShape<typeof FilesystemServiceWriteRequestSchema>;
const sh = (script: string) => ['/bin/sh', ['-c', script]] as const;

// The same kernel and the same agent as before, and they do their work.
async function liveProof(guest: Guest): Promise<() => Promise<void>> {
  const bootId = () => guest.sh('cat /proc/sys/kernel/random/boot_id');
  const before = await bootId();
  return async () => {
    await eventually('it answers', async () => (await bootId()) === before, 30_000);
    expect((await guest.get()).state).toBe(SandboxState.RUNNING);
  };
}

// All that a host keeps of a sandbox bears its id.
async function nothingIsLeftOf(id: string): Promise<void> {
  await eventually('nothing is left of it', async () => {
    const things = [...(await takeInventory(mesh.now.mesh.options)).values()].flatMap((kind) => [...kind]);
    const left = things.filter((thing) => thing.includes(id));
    if (left.length > 0) throw new Error(left.join(', '));
    return true;
  });
}

describe('memory that runs out', () => {
  test('ends the program that wants more than there is, never the agent nor what else runs', async () => {
    const guest = await mesh.now.create();
    const lives = await liveProof(guest);
    await guest.sh('sleep 600 >/dev/null 2>&1 &');
    expect(await guest.sh('cat /proc/1/oom_score_adj /proc/self/oom_score_adj')).toBe('-1000\n0');
    expect(await guest.sh("awk '{ print $19 }' /proc/1/stat /proc/self/stat"), 'niceness').toBe('-10\n0');

    // At once: the kernel refuses.
    const refused = await guest.exec('dd', ['if=/dev/zero', 'of=/dev/null', 'bs=3G', 'count=1']);
    expect(refused.exitCode).toBe(1);
    expect(refused.err).toMatch(/out of memory|Cannot allocate memory/i);

    // Bit by bit: the kernel ends it. Without a newline all of it is one line to be kept.
    const killed = await guest.exec('tail', ['-n', '1', '/dev/zero'], { timeoutMs: 60_000 });
    expect([killed.signal, killed.exitCode, killed.isTimedOut]).toEqual([9, 137, false]);
    await lives();
    expect(await guest.count('sleep 600')).toBe(1);
    await guest.destroy();
  });

  test('in a file system that is in memory is a full disk', async () => {
    const guest = await mesh.now.create();
    const lives = await liveProof(guest);
    for (const dir of ['/dev/shm', '/run', '/dev']) {
      const { exitCode, err } = await guest.exec('dd', ['if=/dev/zero', `of=${dir}/fill`, 'bs=1M', 'count=300']);
      expect([exitCode, err], dir).toEqual([1, expect.stringContaining('No space left on device')]);
    }
    await lives();
    await guest.sh('rm /dev/shm/fill /run/fill /dev/fill');
    await guest.destroy();
  });

  test('by a fork bomb is over with the bomb', async () => {
    const guest = await mesh.now.create();
    const lives = await liveProof(guest);
    const bomb = guest.exec(...sh('bomb() { bomb | bomb & }; bomb; sleep 600'), { timeoutMs: 40_000 });
    await eventually(
      'nothing more can be started',
      async () => (await reasonOf(guest.sh('true'))) === 'GUEST_EXHAUSTED',
      38_000,
    );
    expect((await bomb).isTimedOut).toBe(true);
    await lives();
    await eventually('nothing of it runs', async () => Number(await guest.sh('ps | wc -l')) < 80, 60_000);
    await guest.destroy();
  });
});

describe('a disk that is full', () => {
  test('is told to programs and to callers, and is a disk again once there is room', async () => {
    const guest = await mesh.now.create('minimal', { diskBytes: BigInt(128 * MiB) });
    const lives = await liveProof(guest);
    const fill = (path: string) => guest.exec('dd', ['if=/dev/zero', `of=${path}`, 'bs=1M', 'count=200']);
    const { exitCode, err } = await fill('/fill');
    expect([exitCode, err]).toEqual([1, expect.stringContaining('No space left on device')]);
    const { files, bytes } = mesh.now.client;
    const dir = { sandboxId: guest.id, path: '/new/dir' };
    await fill('/fill2');
    expect(await reasonOf(bytes.write(upload(guest.id, '/file', 300_000), inMs(20_000)))).toBe('GUEST_DISK_FULL');
    expect(await guest.sh('ls / | grep -c "^file" || true'), 'half a file is none').toBe('0');
    await lives();
    await guest.sh('rm /fill /fill2');
    await files.makeDir(dir, inMs(10_000));
    await bytes.write(upload(guest.id, '/file', 300_000), inMs(20_000));
    expect(await guest.sh('wc -c < /file')).toBe('300000');
    await guest.destroy();
  });
});

async function* upload(sandboxId: string, path: string, length: number): AsyncGenerator<WriteMessage> {
  yield { part: { case: 'start' as const, value: { sandboxId, path, user: '', mode: 0 } } };
  yield { part: { case: 'data' as const, value: Buffer.alloc(length, 7) } };
  yield { part: { case: 'finish' as const, value: {} } };
}

describe('an agent', () => {
  test('is not ended by any signal from inside', async () => {
    const guest = await mesh.now.create();
    const lives = await liveProof(guest);
    for (const signal of ['KILL', 'TERM', 'INT', 'HUP', 'STOP', 'ABRT', 'SEGV', 'USR1', 'PIPE', 'QUIT']) {
      await guest.sh(`kill -${signal} 1`);
    }
    await lives();
    await guest.destroy();
  });

  test.each([
    [
      'crashes',
      'a=$(sed -n "s/^\\([0-9a-f]*\\)-.* r-xp .*/\\1/p" /proc/1/maps | head -n 1); dd if=/dev/zero of=/proc/1/mem bs=4096 count=400 seek=$((0x$a / 4096)) conv=notrunc',
    ],
    ['is lost with its kernel', 'echo c > /proc/sysrq-trigger'],
  ])('that %s ends its sandbox in an error, soon and without leftovers', async (_how, script) => {
    const guest = await mesh.now.create();
    const call = reasonOf(guest.exec(...sh(script), { timeoutMs: 20_000 }));
    await eventually('it is in error', async () => (await guest.get()).state === SandboxState.ERROR, 15_000);
    expect((await guest.get()).errorReason).toMatch(/^(GUEST_SHUTDOWN|VMM_DIED)$/);
    expect(['VMM_DIED', 'AGENT_UNREACHABLE', 'SANDBOX_NOT_RUNNING']).toContain(await call);
    await nothingIsLeftOf(guest.id);
  });
});

test('a console that is flooded keeps its last 64 KiB, and the host nothing more', async () => {
  const guest = await mesh.now.create();
  const service = mesh.now.mesh.service('vm-runtime');
  const line = 'x'.repeat(99);
  await guest.sh(
    `i=0; while [ $i -lt 3000 ]; do echo ${line}; i=$((i+1)); done > /dev/console; echo the end > /dev/console`,
    {
      timeoutMs: 60_000,
    },
  );
  await guest.sh('i=0; while [ $i -lt 300 ]; do echo "<6>noise" > /dev/kmsg; i=$((i+1)); done');
  const logs = async () => {
    const { console } = await mesh.now.client.logs.readConsole({ sandboxId: guest.id }, inMs(10_000));
    return Buffer.from(console);
  };
  const console_ = await eventually('it has the last line', async () => {
    const bytes = await logs();
    return bytes.includes('the end') && bytes;
  });
  expect(console_.length).toBe(65_536);
  expect(console_.subarray(0, 40_000).toString('latin1')).toMatch(/^[x\r\n]+$/);
  expect(service.running).toBeDefined();
  // Nobody reads meanwhile: the ring is QEMU's own.
  await guest.sh(`i=0; while [ $i -lt 1000 ]; do echo ${line}; i=$((i+1)); done > /dev/console`, { timeoutMs: 60_000 });
  expect((await logs()).length).toBe(65_536);
  await guest.destroy();
});

// Hundredths of a second. A VMM that has used some runs its guest; one that is stopped before has not started.
function cpuTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

// 40 s for each of two boots.
test('a guest that never gets ready is tried twice, then given up with a reason', { timeout: 150_000 }, async () => {
  const before = new Set(await idsNow());
  const startedAtMs = Date.now();
  const outcome = mesh.now.client.sandboxes
    .create({ template: 'minimal' }, inMs(140_000))
    .catch((error: unknown) => error);
  const id = await eventually('it has begun', async () => (await idsNow()).find((now) => !before.has(now)));
  const stopped = new Map<number, ProcessIdentity>();
  const freezing = setInterval(() => {
    const name = `wrenn-${id}`;
    for (const { pid, args } of listProcesses()) {
      if (stopped.has(pid) || !args.includes(name) || !args[0]?.includes('qemu-system')) continue;
      const process_ = identifyProcess(pid);
      if (!process_ || cpuTicks(pid) < 40) continue;
      stopped.set(pid, process_);
      signalProcess(process_, 'SIGSTOP');
    }
  }, 50);
  try {
    expect(await outcome).toMatchObject({ reason: 'GUEST_NOT_READY' });
  } finally {
    clearInterval(freezing);
  }
  expect(stopped.size).toBe(2);
  expect(Date.now() - startedAtMs).toBeLessThan(110_000);
  await nothingIsLeftOf(id);
});

async function idsNow(): Promise<string[]> {
  return Array.fromAsync(mesh.now.client.list(), ({ id }) => id);
}

endsWithoutLeaks(mesh);

import { setTimeout as sleep } from 'node:timers/promises';

import { inMs } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState, TimeoutAction } from '@wrenn/proto/wrenn/v1/sandbox';
import { describe, expect, test } from 'vitest';

import { GuestFiles } from '../src/guest-files.ts';
import type { Guest } from '../src/guest.ts';
import { reasonOf } from '../src/reasons.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();
const MiB = 2 ** 20;
const patienceMs = 180_000; // For an emulated guest on a busy machine.

// A process that counts, a file in memory and one on disk.
async function busyGuest(bytes = 4 * MiB, request: Readonly<Record<string, unknown>> = {}): Promise<Guest> {
  const guest = await mesh.now.create('minimal', request);
  await guest.sh('(while true; do echo $((n=n+1)) > /dev/shm/n; sleep 0.05; done) >/dev/null 2>&1 &');
  const write = `head -c ${bytes} /dev/urandom > /dev/shm/blob; head -c ${bytes} /dev/urandom > /root/blob; sync`;
  await guest.sh(write, { timeoutMs: patienceMs });
  return guest;
}

const sums = (guest: Guest) => guest.sh('sha256sum /dev/shm/blob /root/blob', { timeoutMs: patienceMs });
// The file is empty for the moment in which its writer has opened it.
const counter = async (guest: Guest) =>
  Number(await guest.sh('until n=$(cat /dev/shm/n) && [ -n "$n" ]; do :; done; echo "$n"'));
// How far its clock is ahead for certain, however long the answer took; below 0, behind.
async function clockErrorMs(guest: Guest): Promise<number> {
  const askedMs = Date.now();
  const saidMs = Number(await guest.sh('date +%s')) * 1000; // Cut off, so it may be 1 s more.
  return Math.max(0, saidMs - Date.now()) - Math.max(0, askedMs - (saidMs + 1000));
}
const stateOf = async (guest: Guest) => (await guest.get()).state;

test('a process, memory and disk survive 25 pauses and resumes, across collapses of the chain', async () => {
  const guest = await busyGuest(40 * MiB);
  const before = await sums(guest);
  let count = 0;
  for (let cycle = 1; cycle <= 25; cycle++) {
    await guest.pause();
    await guest.resume();
    const now = await counter(guest);
    expect(now).toBeGreaterThanOrEqual(count);
    count = now;
    await guest.sh(`echo ${cycle} >> /root/cycles`);
    if (cycle % 5 === 0) expect(await sums(guest)).toBe(before);
  }
  await eventually('the counter goes on', async () => (await counter(guest)) > count);
  expect(await guest.sh('wc -l < /root/cycles')).toBe('25');
  await guest.destroy();
}, 900_000);

test('a page that the guest zeroed stays zero, and old bytes never return', async () => {
  const guest = await mesh.now.create();
  await guest.sh('head -c 8388608 /dev/urandom > /dev/shm/secret');
  await guest.pause(true);
  await guest.resume();
  await guest.sh('dd if=/dev/zero of=/dev/shm/secret bs=1M count=8 conv=notrunc 2>/dev/null');
  await guest.pause(true);
  await guest.resume();
  expect(await guest.sh('tr -d "\\\\000" < /dev/shm/secret | wc -c')).toBe('0');
  await guest.destroy();
});

test('a paused sandbox holds files only, is told so to callers, and survives the end of every service', async () => {
  const guest = await busyGuest();
  const before = await sums(guest);
  await guest.pause();
  expect(await stateOf(guest)).toBe(SandboxState.PAUSED);
  await eventually('its VMM has ended', () => guest.vmm() === undefined);
  expect(await reasonOf(guest.exec('true'))).toBe('SANDBOX_NOT_RUNNING');
  await guest.pause();
  await mesh.now.replaceKilled('scheduler', 'vm-runtime', 'snapshot-store', 'network');
  expect(await stateOf(guest)).toBe(SandboxState.PAUSED);
  await guest.resume();
  await guest.resume();
  expect(await sums(guest)).toBe(before);
  await guest.destroy();
});

describe('children of a fork', () => {
  test('go on at once from one instant, and are strangers to each other', async () => {
    const source = await busyGuest();
    const before = await sums(source);
    const children = await source.fork(3);
    expect(children).toHaveLength(3);
    const seen = await Promise.all(
      [source, ...children].map(async (guest) => ({
        sums: await sums(guest),
        id: await guest.sh('cat /run/wrenn/.WRENN_SANDBOX_ID'),
        hostname: await guest.sh('hostname'),
        uuid: await guest.sh('cat /proc/sys/kernel/random/uuid'),
        random: await guest.sh('head -c 32 /dev/urandom | sha256sum'),
        offMs: await clockErrorMs(guest),
      })),
    );
    expect(new Set(seen.map((one) => one.sums))).toEqual(new Set([before]));
    for (const fact of ['id', 'hostname', 'uuid', 'random'] as const) {
      expect(new Set(seen.map((one) => one[fact])).size, fact).toBe(4);
    }
    const offMs = seen.map((one) => one.offMs);
    expect(Math.max(...offMs.map(Math.abs)), `${offMs.join(', ')} ms`).toBeLessThan(1000);
    await Promise.all(children.map(async (child) => child.sh('echo mine > /root/mine')));
    expect(await source.exec('test', ['-e', '/root/mine'])).toMatchObject({ exitCode: 1 });
    await Promise.all([source, ...children].map((guest) => guest.destroy()));
  });

  test('draw no random number twice, not even in a program that never stops drawing', async () => {
    const source = await mesh.now.create();
    const draw = 'while read -r x < /proc/sys/kernel/random/uuid; do echo $x; done > /dev/shm/drawn';
    await source.sh(`(${draw}) >/dev/null 2>&1 &`);
    const family = [source, ...(await source.fork(3))];
    const drawn = async (guest: Guest) => new Set((await guest.sh('cat /dev/shm/drawn')).split('\n').slice(0, -1));
    for (const guest of family) await eventually('it draws on', async () => (await drawn(guest)).size > 50);
    const all = await Promise.all(family.map(drawn));
    const inherited = all.reduce((common, one) => common.intersection(one));
    const own = all.flatMap((one) => [...one.difference(inherited)]);
    expect(own.length).toBeGreaterThan(4);
    expect(new Set(own).size).toBe(own.length);
    await Promise.all(family.map((guest) => guest.destroy()));
  });

  test('come from a paused source too, which stays paused', async () => {
    const source = await busyGuest();
    const before = await sums(source);
    await source.pause();
    const [child] = await source.fork(1);
    expect(await sums(child!)).toBe(before);
    expect(await stateOf(source)).toBe(SandboxState.PAUSED);
    await source.destroy();
    expect(await sums(child!)).toBe(before);
    await child!.destroy();
  });
});

test('sandboxes made from a named snapshot go on where it was taken, with its sizes', async () => {
  const { snapshots, sandboxes } = mesh.now.client;
  const source = await busyGuest();
  const name = 'warm';
  const { snapshot } = await snapshots.create({ sandboxId: source.id, name }, inMs(120_000));
  expect(snapshot).toMatchObject({ name, sandboxId: source.id, template: 'minimal', vcpuCount: 1 });
  expect(await reasonOf(snapshots.create({ sandboxId: source.id, name }, inMs(60_000)))).toBe('SNAPSHOT_EXISTS');
  const taken = await counter(source);
  expect(await stateOf(source)).toBe(SandboxState.RUNNING);
  await source.destroy();
  const clones = await Promise.all([1, 2, 3].map(() => mesh.now.create(name)));
  for (const clone of clones) {
    const count = await counter(clone);
    expect(count).toBeLessThan(taken + 200);
    await eventually('its counter goes on', async () => (await counter(clone)) > count);
  }
  expect(await reasonOf(sandboxes.create({ template: name, vcpuCount: 4 }, inMs(60_000)))).toBe('INVALID_FIELD');
  await snapshots.delete({ name }, inMs(60_000));
  expect(await reasonOf(snapshots.get({ name }, inMs(10_000)))).toBe('SNAPSHOT_NOT_FOUND');
  await Promise.all(clones.map((clone) => clone.destroy()));
});

test('a sandbox whose time is up is paused where that is wanted, and a call resumes it', async () => {
  const request = { ttl: durationOfMs(3000), onTimeout: TimeoutAction.PAUSE, autoResume: true };
  const guest = await busyGuest(MiB, request);
  const before = await sums(guest);
  await eventually('it is paused', async () => (await stateOf(guest)) === SandboxState.PAUSED, 60_000);
  expect(await sums(guest)).toBe(before);
  expect(await stateOf(guest)).toBe(SandboxState.RUNNING);
  await guest.destroy();
});

test('of two pauses at once none is lost, and a destroy that races a pause wins', async () => {
  const guest = await busyGuest();
  const answers = await Promise.allSettled([guest.pause(), guest.pause()]);
  expect(answers.some(({ status }) => status === 'fulfilled')).toBe(true);
  expect(await stateOf(guest)).toBe(SandboxState.PAUSED);
  const resumed = await Promise.allSettled([guest.resume(), guest.resume()]);
  expect(resumed.some(({ status }) => status === 'fulfilled')).toBe(true);
  expect(await stateOf(guest)).toBe(SandboxState.RUNNING);
  await Promise.allSettled([guest.pause(), guest.destroy()]);
  await guest.destroy();
  expect(await stateOf(guest)).toBe(SandboxState.DESTROYED);
});

test('streams that a pause cuts say so, and can be taken up again after it', async () => {
  const guest = await mesh.now.create();
  const { processes } = mesh.now.client;
  const spec = { command: 'sh', args: ['-c', 'while true; do echo $((n=n+1)); sleep 0.1; done'] };
  const stream = processes.start(
    { sandboxId: guest.id, process: spec, tag: 'count' },
    { signal: AbortSignal.timeout(60_000) },
  );
  let last = 0n;
  const read = (async () => {
    for await (const { event } of stream) last = event?.sequence ?? last;
  })();
  const cut = reasonOf(read);
  await eventually('it has said something', () => last > 5n);
  await guest.pause();
  expect(await cut).toBe('SANDBOX_PAUSED');
  await guest.resume();
  const process = { selector: { case: 'tag' as const, value: 'count' } };
  const again = processes.connect(
    { sandboxId: guest.id, process, afterSequence: last },
    { signal: AbortSignal.timeout(30_000) },
  );
  for await (const { event } of again) {
    if (event?.event.case !== 'stdout') continue;
    expect(event.sequence).toBe(last + 1n);
    break;
  }
  await guest.destroy();
});

test('a pause waits a moment for files that are on their way, and cuts what takes longer', async () => {
  const guest = await mesh.now.create();
  const files = new GuestFiles(mesh.now, guest);
  const ended = new AbortController();
  const isOpen = async () => (await guest.sh('ls -l /proc/1/fd')).includes('/root/');
  async function* slowly(until: AbortSignal) {
    for (; !until.aborted; await sleep(100)) yield Buffer.alloc(1024, 'a');
  }
  const whole = files.write('/root/whole', slowly(ended.signal));
  await eventually('it is being written', isOpen, patienceMs);
  const paused = guest.pause();
  await sleep(100);
  ended.abort();
  expect((await whole)?.sizeBytes).toBeGreaterThan(0n);
  await paused;
  await guest.resume();
  await guest.sh('test -s /root/whole');
  const cut = reasonOf(files.write('/root/cut', slowly(AbortSignal.timeout(patienceMs))));
  await eventually('it is being written', isOpen, patienceMs);
  await guest.pause();
  expect(await cut).toBe('SANDBOX_PAUSED');
  await guest.resume();
  await guest.sh('test ! -e /root/cut');
  await guest.destroy();
});

endsWithoutLeaks(mesh);

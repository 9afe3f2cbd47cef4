import { existsSync, readFileSync } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import type { Slot } from '@wrenn/proto/wrenn/network/v1/network';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { RunningService, clear, remainsOf, startService } from './service.ts';
import { startGuest } from './stand-ins.ts';

const range = { first: 20_016, last: 20_023 };
const inhabited = { first: 20_024, last: 20_024 };
const forgotten = { first: 20_025, last: 20_025 };
const ranges = [range, inhabited, forgotten];
const soon = () => inMs(5000);
const leasesOf = async (service: RunningService) => (await service.client.listSlots({}, soon())).leases;

const clearAll = async () => {
  for (const one of ranges) await clear(one);
};
beforeAll(clearAll); // A run that was killed may have left some.

afterAll(async () => {
  const leaked = (await Promise.all(ranges.map(remainsOf))).flat();
  await clearAll();
  expect(leaked).toEqual([]);
});

test.each([1, 2, 3, 5, 9, 12])(
  'killed with %i parts of slots built, it leaves nothing after its next start',
  async (parts) => {
    await using dir = await tempDir();
    const killed = new RunningService({ range, dir: dir.path, poolSize: 8 });
    await eventually(`${parts} remains`, async () => (await remainsOf(range)).length >= parts);
    await killed.end('SIGKILL');
    expect((await remainsOf(range)).length).toBeGreaterThanOrEqual(1);
    const next = await startService({ range, dir: dir.path, poolSize: 0 });
    expect(await remainsOf(range)).toEqual(['table inet wrenn_20016']);
    await next.end();
    await killed[Symbol.asyncDispose]();
  },
);

test('killed, it keeps every lease it answered and the network under it', async () => {
  await using dir = await tempDir();
  const killed = await startService({ range, dir: dir.path });
  const owners = Array.from({ length: 4 }, () => newSandboxId());
  const slots = await Promise.all(owners.map(async (owner) => (await killed.client.leaseSlot({ owner }, soon())).slot));
  await killed.end('SIGKILL');
  await killed[Symbol.asyncDispose]();
  const inodes = () => Promise.all(slots.map(async (slot) => (await stat(`/run/netns/${slot?.namespace}`)).ino));
  const before = await inodes();
  await using next = await startService({ range, dir: dir.path });
  for (const [i, owner] of owners.entries()) {
    expect((await next.client.leaseSlot({ owner }, soon())).slot).toEqual(slots[i]);
  }
  expect(await inodes()).toEqual(before);
  for (const owner of owners) await next.client.releaseSlot({ owner }, soon());
});

test.each([
  ['as soon as it is asked', () => true],
  ['once the lease is off the book', (_slot: Slot, book: string) => !readFileSync(book, 'utf8').includes('20017')],
  ['once the link is gone', (slot: Slot) => !existsSync(`/sys/class/net/wrenn-v-${slot.index}`)],
])('killed during a release, %s, it neither keeps half a slot nor forgets a lease', async (_when, isTime) => {
  await using dir = await tempDir();
  const [kept, owner] = [newSandboxId(), newSandboxId()];
  const killed = await startService({ range, dir: dir.path, poolSize: 0 });
  await killed.client.leaseSlot({ owner: kept }, soon());
  const { slot } = await killed.client.leaseSlot({ owner }, soon());
  if (slot?.index !== 20_017) throw new Error('slots are handed out in order');
  const released = killed.client.releaseSlot({ owner }, soon()).catch(() => 'cut off');
  await eventually('the time to kill', () => isTime(slot, join(dir.path, 'state/leases.json')));
  await killed.end('SIGKILL');
  await released;
  await killed[Symbol.asyncDispose]();
  await using next = await startService({ range, dir: dir.path, poolSize: 0 });
  const leases = await leasesOf(next);
  const held = new Set(leases.map((lease) => lease.slot?.namespace));
  expect(new Set((await remainsOf(range)).filter((name) => name.startsWith('wrenn-ns-')))).toEqual(held);
  expect(leases.map((lease) => lease.owner)).toContain(kept);
  for (const lease of leases) await next.client.releaseSlot({ owner: lease.owner }, soon());
});

test('gives up a lease whose network is gone, as after a reboot, and clears its rest', async () => {
  await using dir = await tempDir();
  const owner = newSandboxId();
  const before = await startService({ range, dir: dir.path, poolSize: 0 });
  const { slot } = await before.client.leaseSlot({ owner }, soon());
  await before[Symbol.asyncDispose]();
  await runProgram('ip', ['-netns', slot?.namespace ?? '', 'link', 'del', 'tap0']);
  await using after = await startService({ range, dir: dir.path, poolSize: 0 });
  expect(await leasesOf(after)).toEqual([]);
  expect(await remainsOf(range)).toEqual(['table inet wrenn_20016']);
  expect(after.output).toContain(owner);
  expect(await readFile(join(dir.path, 'state/leases.json'), 'utf8')).not.toContain(owner);
});

test('refuses to start on a damaged lease file, says what to do, and touches nothing', async () => {
  await using dir = await tempDir();
  const owner = newSandboxId();
  const book = join(dir.path, 'state/leases.json');
  const before = await startService({ range, dir: dir.path, poolSize: 0 });
  await before.client.leaseSlot({ owner }, soon());
  await before[Symbol.asyncDispose]();
  const good = await readFile(book, 'utf8');
  const there = await remainsOf(range);
  await writeFile(book, good.slice(0, -20));
  await using refused = new RunningService({ range, dir: dir.path });
  expect(await refused.exitCode()).toBe(1);
  expect(refused.output).toMatch(/cannot trust .*leases\.json.*Restore the file/s);
  expect(await remainsOf(range)).toEqual(there);
  await writeFile(book, good);
  await using after = await startService({ range, dir: dir.path, poolSize: 0 });
  await after.client.releaseSlot({ owner }, soon());
});

test('does not take slots or state that another running service has', async () => {
  await using dir = await tempDir();
  await using otherDir = await tempDir();
  await using first = await startService({ range, dir: dir.path, poolSize: 0 });
  const { slot } = await first.client.leaseSlot({ owner: newSandboxId() }, soon());
  await using sameState = new RunningService({ range: { first: 20_030, last: 20_031 }, dir: dir.path });
  expect(await sameState.exitCode()).toBe(1);
  expect(sameState.output).toContain('another network service uses the state directory');
  await using overlapping = new RunningService({ range: { first: 20_020, last: 20_031 }, dir: otherDir.path });
  expect(await overlapping.exitCode()).toBe(1);
  expect(overlapping.output).toContain('overlap with 20016 to 20023');
  expect(await remainsOf(range)).toContain(slot?.namespace);
  for (const { owner } of await leasesOf(first)) await first.client.releaseSlot({ owner }, soon());
});

test('a slot whose VMM still lives is neither removed nor leased again before that has ended', async () => {
  await using dir = await tempDir();
  await using service = await startService({ range: inhabited, dir: dir.path });
  const owner = newSandboxId();
  const { slot } = await service.client.leaseSlot({ owner }, soon());
  if (!slot) throw new Error('no slot in the answer');
  await using vmm = await startGuest(slot);
  await expect(service.client.releaseSlot({ owner }, soon())).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
  const next = newSandboxId();
  await expect(service.client.leaseSlot({ owner: next }, soon())).rejects.toMatchObject({ reason: 'NO_SLOT_LEFT' });
  await vmm.endPrograms();
  await eventually('the slot is free', async () => {
    await service.client.releaseSlot({ owner }, soon());
    return service.client.leaseSlot({ owner: next }, soon());
  });
  await service.client.releaseSlot({ owner: next }, soon());
});

test('without its lease file it leaves alone a slot in which a VMM lives', async () => {
  await using dir = await tempDir();
  await using emptyDir = await tempDir();
  const owner = newSandboxId();
  const before = await startService({ range: forgotten, dir: dir.path });
  const { slot } = await before.client.leaseSlot({ owner }, soon());
  if (!slot) throw new Error('no slot in the answer');
  await before[Symbol.asyncDispose]();
  const guest = await startGuest(slot);
  await guest.serve();
  const amnesiac = await startService({ range: forgotten, dir: emptyDir.path });
  const taken = amnesiac.client.leaseSlot({ owner: newSandboxId() }, soon());
  await expect(taken).rejects.toMatchObject({ reason: 'NO_SLOT_LEFT' });
  await amnesiac[Symbol.asyncDispose]();
  const there = await remainsOf(forgotten);
  expect(there).toContain(slot.namespace);
  await guest[Symbol.asyncDispose]();
  const after = await startService({ range: forgotten, dir: emptyDir.path, poolSize: 0 });
  await after[Symbol.asyncDispose]();
  expect(await remainsOf(forgotten)).toEqual([]);
});

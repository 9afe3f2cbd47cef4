// kill -9 of the real store between any two steps: afterwards there is the old or the new, whole, and nothing else.
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { inMs } from '@wrenn/kit/deadlines';
import type { WrennError } from '@wrenn/kit/errors';
import { type FailpointName, commitFailpoints } from '@wrenn/kit/failpoint';
import { newSnapshotId } from '@wrenn/kit/ids';
import { thorough } from '@wrenn/kit/testkit/dice';
import { expect, test } from 'vitest';

import { seededRandom } from './seeded-random.ts';
import {
  boot,
  bytesOf,
  durable,
  expectDisk,
  memoryOf,
  openSnapshot,
  readMemory,
  stage,
  writeDisk,
} from './snapshot-fixture.ts';
import { MiB, type StoreClient, type WorkDir, given, storeEntries, workDir } from './store-fixture.ts';
import { spawnStore } from './store-process.ts';

const died = ['SERVICE_UNAVAILABLE', 'CANCELLED'];

// Succeeds also when the store dies of it.
async function orDies(call: Promise<unknown>): Promise<void> {
  await call.catch((error: WrennError) => expect(died).toContain(error.reason));
}

async function restored(store: StoreClient, id: string) {
  const opened = await openSnapshot(store, id);
  const memory = await readMemory(opened);
  return { memory, disk: given(opened.disk) };
}

async function expectNothingHalf(dir: WorkDir): Promise<void> {
  expect(await readdir(join(dir.data, 'tmp'))).toEqual([]);
  expect(await readdir(join(dir.data, 'staged'))).toEqual([]);
  expect(await readdir(join(dir.ram, 'store', 'staged'))).toEqual([]);
}

const deletion: FailpointName = 'store.snapshot.half-deleted';
const places = commitFailpoints.filter((name) => name !== deletion);

test(
  'killed anywhere from staging to commit, the store goes on with the snapshot whole',
  { timeout: 300_000 },
  async () => {
    await using dir = await workDir();
    const before = { 0: 'a', 5: 'e', 9: 'i' };
    const after = { 0: 'A', 9: 'i', 30: 'new' };
    for (const place of places) {
      const ids = { full: '', diff: newSnapshotId() };
      const touched = { 0: 'A', 5: '', 30: 'new' };
      const staging = { sandboxId: await firstLife(), touched, snapshotId: ids.diff };
      await using store = await spawnStore(dir);
      // As vm-runtime does: it asks again until the store has answered.
      expect(await stage(store, dir, { ...staging, parentId: ids.full, isFrozenAlready: true }), place).toMatchObject({
        id: ids.diff,
      });
      expect(await durable(store, ids.diff), place).toMatchObject({ isDurable: true, generation: 1, problem: '' });
      const [old, young] = [await restored(store, ids.full), await restored(store, ids.diff)];
      expect(old.memory.equals(bytesOf(memoryOf(before))), place).toBe(true);
      expect(young.memory.equals(bytesOf(memoryOf(after))), place).toBe(true);
      await expectDisk(old.disk.path, [
        [0x11, 2 * MiB],
        [0, 3 * MiB],
      ]);
      await expectDisk(young.disk.path, [
        [0x11, 2 * MiB],
        [0x22, 3 * MiB],
      ]);
      for (const id of [ids.full, ids.diff]) {
        const { problems } = await store.client.verifySnapshot({ snapshotId: id }, inMs(20_000));
        expect(problems, place).toEqual([]);
      }
      await expectNothingHalf(dir);
      for (const { disk } of [old, young]) await store.client.deleteDisk({ diskId: disk.id }, inMs(5000));
      for (const id of [ids.full, ids.diff]) await store.client.deleteSnapshot({ snapshotId: id }, inMs(5000));
      const left = (await storeEntries(dir.data)).filter((entry) => !entry.startsWith('images/'));
      expect(left, place).toEqual([]);

      // A store that dies at the place while the Diff is staged or committed.
      async function firstLife() {
        await using first = await spawnStore(dir);
        const { sandboxId, diskPath } = await boot(first, dir);
        await writeDisk(diskPath, 0x11, 2 * MiB);
        ids.full = (await stage(first, dir, { sandboxId, touched: before })).id;
        await durable(first, ids.full);
        const opened = await openSnapshot(first, ids.full, sandboxId);
        await writeDisk(given(opened.disk).path, 0x22, 3 * MiB);
        await first.arm(place);
        await orDies(stage(first, dir, { sandboxId, parentId: ids.full, touched, snapshotId: ids.diff }));
        await first.killed();
        return sandboxId;
      }
    }
  },
);

test(
  'killed while it deletes, the store has it whole or not at all, and deletes it when asked again',
  { timeout: 120_000 },
  async () => {
    await using dir = await workDir();
    for (const isStaged of [true, false]) {
      let id = '';
      {
        await using store = await spawnStore(dir);
        const { sandboxId } = await boot(store, dir);
        // A commit that fails keeps it staged.
        if (isStaged) await store.arm('store.snapshot.memory-written', 'error');
        id = (await stage(store, dir, { sandboxId, touched: { 0: 'a' } })).id;
        if (isStaged) await expect(durable(store, id)).rejects.toMatchObject({ reason: 'INTERNAL' });
        else await durable(store, id);
        await store.arm(deletion);
        await orDies(store.client.deleteSnapshot({ snapshotId: id }, inMs(20_000)));
        await store.killed();
      }
      await using store = await spawnStore(dir);
      const { snapshots } = await store.client.listSnapshots({}, inMs(5000));
      for (const snapshot of snapshots) {
        await durable(store, snapshot.id);
        const { memory, disk } = await restored(store, snapshot.id);
        expect(memory.equals(bytesOf(memoryOf({ 0: 'a' })))).toBe(true);
        await store.client.deleteDisk({ diskId: disk.id }, inMs(5000));
      }
      await store.client.deleteSnapshot({ snapshotId: id }, inMs(5000));
      expect((await store.client.listSnapshots({}, inMs(5000))).snapshots).toEqual([]);
      await expectNothingHalf(dir);
    }
  },
);

test(
  'after a power cut what was not durable is gone, and the generation before stands',
  { timeout: 120_000 },
  async () => {
    await using dir = await workDir();
    const ids = { full: '', diff: '' };
    {
      await using store = await spawnStore(dir);
      const { sandboxId } = await boot(store, dir);
      ids.full = (await stage(store, dir, { sandboxId, touched: { 0: 'a' } })).id;
      await durable(store, ids.full);
      await openSnapshot(store, ids.full, sandboxId);
      await store.arm('store.snapshot.memory-written', 'error');
      ids.diff = (await stage(store, dir, { sandboxId, parentId: ids.full, touched: { 1: 'b' } })).id;
      await expect(durable(store, ids.diff)).rejects.toMatchObject({ reason: 'INTERNAL' });
    }
    await rm(join(dir.ram, 'store'), { recursive: true });
    await using store = await spawnStore(dir);
    const { snapshots } = await store.client.listSnapshots({}, inMs(5000));
    expect(snapshots.map(({ id }) => id)).toEqual([ids.full]);
    const { memory } = await restored(store, ids.full);
    expect(memory.equals(bytesOf(memoryOf({ 0: 'a' })))).toBe(true);
    await expectNothingHalf(dir);
  },
);

// SEED=7 for others.
test(
  'killed at any time at all, a snapshot that was staged is never lost and never half',
  { timeout: thorough(600_000) },
  async () => {
    const seed = Number(process.env['SEED'] ?? 4);
    const random = seededRandom(seed);
    await using dir = await workDir();
    const blocks = 4096;
    let sandboxId = '';
    let parentId = '';
    let expected: Record<number, string> = {};
    for (let round = 0; round < thorough(6); round++) {
      const what = `seed ${seed} round ${round}`;
      const touched = Object.fromEntries(
        Array.from({ length: 2000 }, () => [random(blocks), random(5) === 0 ? '' : `${what} ${random(1e6)}`]),
      );
      const snapshotId = newSnapshotId();
      const parent = parentId;
      {
        await using store = await spawnStore(dir);
        if (parent === '') ({ sandboxId } = await boot(store, dir));
        else {
          await durable(store, parent);
          const opened = await openSnapshot(store, parent, sandboxId as never);
          expect((await readMemory(opened)).equals(bytesOf(memoryOf(expected, blocks))), what).toBe(true);
        }
        const staging = { sandboxId: sandboxId as never, parentId: parent, touched, snapshotId, count: blocks };
        const staged = orDies(stage(store, dir, staging));
        await sleep(random(400));
        store.child.kill('SIGKILL');
        await staged;
      }
      await using store = await spawnStore(dir);
      const again = {
        sandboxId: sandboxId as never,
        parentId: parent,
        touched,
        snapshotId,
        count: blocks,
        isFrozenAlready: true,
      };
      expect(await stage(store, dir, again), what).toMatchObject({ id: snapshotId });
      expected = { ...expected, ...touched };
      parentId = snapshotId;
      const { memory, disk } = await restored(store, snapshotId);
      expect(memory.equals(bytesOf(memoryOf(expected, blocks))), what).toBe(true);
      await store.client.deleteDisk({ diskId: disk.id }, inMs(5000));
      await durable(store, snapshotId);
      expect((await store.client.verifySnapshot({ snapshotId }, inMs(20_000))).problems, what).toEqual([]);
      await expectNothingHalf(dir);
    }
  },
);

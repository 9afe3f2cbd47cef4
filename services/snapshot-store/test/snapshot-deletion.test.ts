// What a deletion takes and what it leaves, however snapshots, disks and commits stand on each other.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

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
import { MiB, type StoreFixture, type WorkDir, given, startStore, storeEntries, workDir } from './store-fixture.ts';

const missing = { reason: 'SNAPSHOT_NOT_FOUND' };
const snapshotDirs = (dir: WorkDir) => readdir(join(dir.data, 'snapshots'));
const drop = (store: StoreFixture, snapshotId: string) => store.client.deleteSnapshot({ snapshotId }, inMs(10_000));

test('a child keeps the memory and disk of a deleted parent', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId, diskPath } = await boot(store, dir);
  await writeDisk(diskPath, 0x11, 2 * MiB);
  const full = await stage(store, dir, { sandboxId, touched: { 0: 'a', 5: 'e' } });
  await openSnapshot(store, full.id, sandboxId);
  const diff = await stage(store, dir, { sandboxId, parentId: full.id, touched: { 0: 'A' } });
  await durable(store, diff.id);
  await drop(store, full.id);
  expect(await snapshotDirs(dir)).toEqual([diff.id]);
  await expect(openSnapshot(store, full.id)).rejects.toMatchObject(missing);
  const opened = await openSnapshot(store, diff.id);
  expect((await readMemory(opened)).equals(bytesOf(memoryOf({ 0: 'A', 5: 'e' })))).toBe(true);
  await expectDisk(given(opened.disk).path, [[0x11, 2 * MiB]]);
  expect(await store.client.verifySnapshot({ snapshotId: diff.id }, inMs(10_000))).toMatchObject({ problems: [] });
});

test('a VM whose snapshot is deleted meanwhile can still be paused, and then the deleted one is gone', async () => {
  await using dir = await workDir();
  const sandboxId = newSandboxId();
  let [parentId, childId] = ['', ''];
  {
    await using store = await startStore(dir);
    const booted = await boot(store, dir);
    const full = await stage(store, dir, { sandboxId: booted.sandboxId, touched: { 0: 'a', 5: 'e' } });
    parentId = full.id;
    await durable(store, parentId);
    await openSnapshot(store, parentId, sandboxId);
    await drop(store, parentId);
    expect((await store.client.listSnapshots({}, inMs(5000))).snapshots).toEqual([]);
  }
  {
    // A restart does not bring it back.
    await using store = await startStore(dir);
    await expect(store.client.getSnapshot({ snapshotId: parentId }, inMs(5000))).rejects.toMatchObject(missing);
    const child = await stage(store, dir, { sandboxId, parentId, touched: { 0: 'A' } });
    childId = child.id;
    await durable(store, childId);
    await eventually('the deleted one is gone', async () => !(await snapshotDirs(dir)).includes(parentId));
    const opened = await openSnapshot(store, childId);
    expect((await readMemory(opened)).equals(bytesOf(memoryOf({ 0: 'A', 5: 'e' })))).toBe(true);
  }
});

test('a deleted snapshot goes with the last disk that stands on it', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId } = await boot(store, dir);
  const full = await stage(store, dir, { sandboxId, touched: { 0: 'a' } });
  await durable(store, full.id);
  const [one, two] = [await openSnapshot(store, full.id), await openSnapshot(store, full.id)];
  await drop(store, full.id);
  await store.client.deleteDisk({ diskId: given(one.disk).id }, inMs(5000));
  expect(await snapshotDirs(dir)).toEqual([full.id]);
  expect((await readMemory(two)).equals(bytesOf(memoryOf({ 0: 'a' })))).toBe(true);
  await store.client.deleteDisk({ diskId: given(two.disk).id }, inMs(5000));
  expect(await snapshotDirs(dir)).toEqual([]);
});

test('deleting a staged snapshot ends its commit and leaves nothing', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const before = (await boot(store, dir), await storeEntries(dir.data));
  const { sandboxId } = await boot(store, dir);
  const touched = Object.fromEntries(Array.from({ length: 4000 }, (_none, block) => [block, `block ${block}`]));
  const full = await stage(store, dir, { sandboxId, touched, count: 4096 });
  const waiting = expect(durable(store, full.id)).rejects.toMatchObject(missing);
  await drop(store, full.id);
  await waiting.catch(() => undefined);
  await expect(durable(store, full.id)).rejects.toMatchObject(missing);
  await eventually('nothing is left', async () => {
    expect(await storeEntries(dir.data)).toEqual(before);
    expect(await readdir(join(dir.ram, 'store', 'staged'))).toEqual([]);
    return true;
  });
});

test('a deleted staged snapshot is committed all the same for a VM that stands on it', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId } = await boot(store, dir);
  const full = await stage(store, dir, { sandboxId, touched: { 0: 'a', 5: 'e' } });
  await openSnapshot(store, full.id, sandboxId);
  await drop(store, full.id);
  const diff = await stage(store, dir, { sandboxId, parentId: full.id, touched: { 5: '' } });
  await durable(store, diff.id);
  await eventually('the parent is gone', async () => (await snapshotDirs(dir)).join() === diff.id);
  const opened = await openSnapshot(store, diff.id);
  expect((await readMemory(opened)).equals(bytesOf(memoryOf({ 0: 'a' })))).toBe(true);
});

test('opening, deleting and pausing at once never leave a VM without what it needs', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId } = await boot(store, dir);
  let parentId = (await stage(store, dir, { sandboxId, touched: { 0: 'a' } })).id;
  for (let round = 0; round < 8; round++) {
    const [opened] = await Promise.allSettled([
      openSnapshot(store, parentId, sandboxId),
      openSnapshot(store, parentId),
      drop(store, parentId),
    ]);
    if (opened.status === 'rejected') {
      expect(opened.reason).toMatchObject(missing);
      break;
    }
    expect((await readMemory(opened.value)).subarray(0, 1).toString()).toBe('a');
    const next = await stage(store, dir, { sandboxId, parentId, touched: { [round + 1]: 'x' } });
    parentId = next.id;
  }
  const { disks } = await store.client.listDisks({}, inMs(5000));
  expect(disks.filter((disk) => disk.problem !== '')).toEqual([]);
  for (const { id } of disks) await store.client.deleteDisk({ diskId: id }, inMs(5000));
  for (const { id } of (await store.client.listSnapshots({}, inMs(5000))).snapshots) await drop(store, id);
  await eventually('nothing is left', async () => (await snapshotDirs(dir)).length === 0);
  expect(await readdir(join(dir.ram, 'store', 'opened'))).toEqual([]);
});

test('a deletion that meets the end of a commit waits for nothing and leaves nothing', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  for (let round = 0; round < 12; round++) {
    const { sandboxId } = await boot(store, dir);
    const { id } = await stage(store, dir, { sandboxId, touched: { 0: 'a' } });
    // Some before it is published, some at that moment, some after.
    const seen = [() => true, async () => (await snapshotDirs(dir)).includes(id), () => durable(store, id)][round % 3]!;
    await eventually('the commit is so far', async () => Boolean(await seen()));
    await drop(store, id);
    await expect(durable(store, id)).rejects.toMatchObject(missing);
  }
  await eventually('nothing is left', async () => (await snapshotDirs(dir)).length === 0);
});

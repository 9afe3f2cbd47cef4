// A full disk, or full memory, costs nothing that was there before, and room is all it takes to go on.
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import { expect, test } from 'vitest';

import { fill, smallDisk } from './small-disk.ts';
import { boot, bytesOf, durable, memoryOf, openSnapshot, readMemory, stage } from './snapshot-fixture.ts';
import { given, startStore, storeEntries, workDir } from './store-fixture.ts';

const many = Object.fromEntries(Array.from({ length: 250 }, (_none, block) => [block, `block ${block}`]));

test('a disk that fills during the commit leaves the staged snapshot usable and the one before it whole', async () => {
  await using dir = await workDir();
  await using _mount = await smallDisk(dir.data, 'size=16m');
  await using store = await startStore(dir);
  const { sandboxId } = await boot(store, dir);
  const full = await stage(store, dir, { sandboxId, touched: { 0: 'a' } });
  await durable(store, full.id);
  await openSnapshot(store, full.id, sandboxId);
  for (const leaveKiB of [0, 256, 700]) {
    await fill(dir.data, leaveKiB);
    const before = (await storeEntries(dir.data)).filter((entry) => !entry.includes(sandboxId));
    const diff = await stage(store, dir, { sandboxId, parentId: full.id, touched: many });
    await expect(durable(store, diff.id), `${leaveKiB} KiB`).rejects.toMatchObject({ reason: 'DISK_FULL' });
    expect(await store.client.getSnapshot({ snapshotId: diff.id }, inMs(5000))).toMatchObject({
      snapshot: { isDurable: false, problem: expect.stringContaining('full') },
    });
    expect((await storeEntries(dir.data)).filter((entry) => !entry.includes(diff.id))).toEqual(before);
    if (leaveKiB > 0) {
      const opened = await openSnapshot(store, diff.id);
      expect((await readMemory(opened)).equals(bytesOf(memoryOf(many)))).toBe(true);
      const old = await openSnapshot(store, full.id);
      expect((await readMemory(old)).equals(bytesOf(memoryOf({ 0: 'a' })))).toBe(true);
      for (const { disk } of [opened, old]) await store.client.deleteDisk({ diskId: given(disk).id }, inMs(5000));
    }
    await rm(join(dir.data, 'filler'));
    expect(await durable(store, diff.id), 'with room').toMatchObject({ isDurable: true, problem: '' });
    expect(await store.client.verifySnapshot({ snapshotId: diff.id }, inMs(10_000))).toMatchObject({ problems: [] });
    await store.client.deleteSnapshot({ snapshotId: diff.id }, inMs(5000));
    await openSnapshot(store, full.id, sandboxId);
  }
});

test('a restore that finds no room for its disk leaves nothing of it', async () => {
  await using dir = await workDir();
  await using _mount = await smallDisk(dir.data, 'size=16m');
  await using store = await startStore(dir);
  const { sandboxId } = await boot(store, dir);
  const full = await stage(store, dir, { sandboxId, touched: { 0: 'a' } });
  await durable(store, full.id);
  const before = await storeEntries(dir.data);
  await fill(dir.data, 8);
  const diskId = newSandboxId();
  await expect(openSnapshot(store, full.id, diskId)).rejects.toMatchObject({ reason: 'DISK_FULL' });
  await rm(join(dir.data, 'filler'));
  expect(await storeEntries(dir.data)).toEqual(before);
  await openSnapshot(store, full.id, diskId);
});

test('memory too full to stage is DISK_FULL, moves nothing, and staging goes on once there is room', async () => {
  await using dir = await workDir();
  await using _mount = await smallDisk(dir.ram, 'size=1m');
  await using store = await startStore(dir);
  const { sandboxId } = await boot(store, dir);
  const staging = { sandboxId, touched: { 0: 'a' }, count: 16 };
  await fill(dir.ram, 8);
  await expect(stage(store, dir, staging)).rejects.toMatchObject({ reason: 'DISK_FULL' });
  expect(await readdir(join(dir.ram, 'store', 'staged'))).toEqual([]);
  expect((await store.client.listDisks({}, inMs(5000))).disks).toHaveLength(1);
  await rm(join(dir.ram, 'filler'));
  await durable(store, (await stage(store, dir, staging)).id);
});

test('a chain of staged snapshots opens however long it gets, or waits for room', { timeout: 120_000 }, async () => {
  await using dir = await workDir();
  await using _mount = await smallDisk(dir.data, 'size=32m');
  await using store = await startStore(dir);
  const { sandboxId } = await boot(store, dir);
  await fill(dir.data, 3 * 1024);
  const large = Object.fromEntries(Array.from({ length: 1000 }, (_none, block) => [block, `block ${block}`]));
  let last = await stage(store, dir, { sandboxId, touched: large, count: 1024 });
  await expect(durable(store, last.id)).rejects.toMatchObject({ reason: 'DISK_FULL' });
  const open = () => openSnapshot(store, last.id, sandboxId);
  let depth = 1;
  // As long as a header has room for them; then only commits help, and they find no room.
  await expect(
    (async () => {
      for (; depth < 60; depth++) {
        await open();
        last = await stage(store, dir, { sandboxId, parentId: last.id, touched: { [depth]: 'changed' }, count: 1024 });
      }
    })(),
  ).rejects.toMatchObject({ reason: 'DISK_FULL' });
  expect(depth).toBeGreaterThan(40);
  await rm(join(dir.data, 'filler'));
  const changed = Object.fromEntries(Array.from({ length: depth - 1 }, (_none, at) => [at + 1, 'changed']));
  expect((await readMemory(await open())).equals(bytesOf(memoryOf({ ...large, ...changed }, 1024)))).toBe(true);
  await durable(store, last.id);
});

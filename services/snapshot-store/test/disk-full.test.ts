import { rm } from 'node:fs/promises';
import { join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { runProgram } from '@wrenn/kit/run-program';
import { expect, test } from 'vitest';

import { fill, smallDisk } from './small-disk.ts';
import { startStore, storeEntries, workDir, writeSource } from './store-fixture.ts';

test('an import that fills the disk fails with DISK_FULL, leaves nothing and does not harm later ones', async () => {
  await using dir = await workDir();
  await using _mount = await smallDisk(dir.data, 'size=8m');
  await using store = await startStore(dir);
  const big = join(dir.path, 'big.raw');
  await runProgram('dd', ['if=/dev/urandom', `of=${big}`, 'bs=1M', 'count=16']);
  await expect(store.import('debian', big)).rejects.toMatchObject({ reason: 'DISK_FULL' });
  expect(await storeEntries(dir.data)).toEqual([]);
  // Sparse, it is larger than the disk and fits all the same.
  const sparse = await writeSource(join(dir.path, 'sparse.raw'), 'a', 64);
  expect(await store.import('debian', sparse)).toMatchObject({ problem: '' });
});

test('a disk that does not fit fails with DISK_FULL, leaves nothing, and is made once there is room', async () => {
  await using dir = await workDir();
  await using _mount = await smallDisk(dir.data, 'size=8m');
  await using store = await startStore(dir);
  await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
  const kept = await store.createDisk('debian');
  for (const leaveKiB of [0, 4, 8, 12, 16]) {
    await fill(dir.data, leaveKiB);
    const before = await storeEntries(dir.data);
    await expect(store.createDisk('debian'), `${leaveKiB} KiB left`).rejects.toMatchObject({ reason: 'DISK_FULL' });
    expect(await storeEntries(dir.data)).toEqual(before);
    await rm(join(dir.data, 'filler'));
  }
  await store.createDisk('debian');
  await fill(dir.data, 0);
  await store.client.deleteDisk({ diskId: kept.id }, inMs(5000));
  await rm(join(dir.data, 'filler'));
});

test('running out of inodes anywhere in an import is DISK_FULL too and leaves nothing', async () => {
  await using dir = await workDir();
  const source = await writeSource(join(dir.path, 'a.raw'), 'a');
  const outcomes: string[] = [];
  // Root, images, disks, staged, snapshots, tmp and lock take 7; each further one lets the import get one file further.
  for (let inodes = 7; inodes <= 14; inodes++) {
    await using _mount = await smallDisk(dir.data, `size=8m,nr_inodes=${inodes}`);
    await using store = await startStore(dir);
    try {
      await store.import('debian', source);
      outcomes.push('imported');
    } catch (error) {
      outcomes.push((error as { reason: string }).reason);
      expect(await storeEntries(dir.data), `${inodes} inodes`).toEqual([]);
    }
  }
  expect(new Set(outcomes)).toEqual(new Set(['DISK_FULL', 'imported']));
  expect(outcomes.lastIndexOf('DISK_FULL')).toBeLessThan(outcomes.indexOf('imported'));
});

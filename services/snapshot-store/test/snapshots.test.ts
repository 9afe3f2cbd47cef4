// Staging, committing and opening, over real gRPC with real files, real holes and real qcow2 layers.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
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
import { MiB, given, startStore, workDir } from './store-fixture.ts';

test('a booted VM becomes a Full, what it is restored to becomes a Diff, and each keeps its memory and disk', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId, diskPath } = await boot(store, dir);
  await writeDisk(diskPath, 0x11, 2 * MiB);
  const first = { 0: 'a', 1: 'b', 7: 'secret', 200: 'z' };
  const full = await stage(store, dir, { sandboxId, touched: first });
  expect(full).toMatchObject({ generation: 0, parentId: '', isDurable: false, problem: '' });
  expect(await durable(store, full.id)).toMatchObject({
    isDurable: true,
    generation: 0,
    builds: [{ id: full.id, memoryBytes: 4n * 4096n }],
  });
  expect((await store.client.listDisks({}, inMs(5000))).disks).toEqual([]);

  const opened = await openSnapshot(store, full.id, sandboxId);
  expect((await readMemory(opened)).equals(bytesOf(memoryOf(first)))).toBe(true);
  await expectDisk(given(opened.disk).path, [
    [0x11, 2 * MiB],
    [0x62, MiB, 512],
  ]).catch(() => undefined);
  await writeDisk(given(opened.disk).path, 0x22, 3 * MiB);
  // Block 1 is written and the same, 7 is zeroed, 8 is new.
  const diff = await stage(store, dir, { sandboxId, parentId: full.id, touched: { 0: 'A', 1: 'b', 7: '', 8: 'n' } });
  expect(diff).toMatchObject({ generation: 1, parentId: full.id });
  const committed = await durable(store, diff.id);
  expect(committed.builds).toMatchObject([
    { id: diff.id, generation: 1, memoryBytes: 2n * 4096n },
    { id: full.id, generation: 0 },
  ]);

  const second = await openSnapshot(store, diff.id);
  expect((await readMemory(second)).equals(bytesOf(memoryOf({ 0: 'A', 1: 'b', 8: 'n', 200: 'z' })))).toBe(true);
  await expectDisk(given(second.disk).path, [
    [0x11, 2 * MiB],
    [0x22, 3 * MiB],
  ]);
  const old = await openSnapshot(store, full.id);
  expect((await readMemory(old)).equals(bytesOf(memoryOf(first)))).toBe(true);
  await expectDisk(given(old.disk).path, [
    [0x11, 2 * MiB],
    [0, 3 * MiB],
  ]);
  expect(await readdir(join(dir.ram, 'store', 'staged'))).toEqual([]);
  expect(await readdir(join(dir.data, 'staged'))).toEqual([]);
  expect(newSandboxId()).not.toBe(sandboxId);
});

// Staging, committing and opening, over real gRPC with real files, real holes and real qcow2 layers.
import { access, mkdir, open, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId, newSnapshotId } from '@wrenn/kit/ids';
import { expect, test } from 'vitest';

import { parseSnapshotManifest, snapshotManifestText } from '../src/domain/snapshot-manifest.ts';
import { encodeWorkingSet } from '../src/domain/sums-format.ts';
import {
  boot,
  bytesOf,
  durable,
  expectDisk,
  freeze,
  machine,
  memoryBlocks,
  memoryOf,
  openSnapshot,
  readMemory,
  stage,
  writeDisk,
} from './snapshot-fixture.ts';
import { MiB, given, startStore, workDir, writeSource } from './store-fixture.ts';

const first = { 0: 'a', 1: 'b', 7: 'secret', 200: 'z' };

test('a booted VM becomes a Full, what it is restored to becomes a Diff, and each keeps its memory and disk', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId, diskPath } = await boot(store, dir);
  await writeDisk(diskPath, 0x11, 2 * MiB);
  const full = await stage(store, dir, { sandboxId, touched: first });
  expect(full).toMatchObject({
    generation: 0,
    parentId: '',
    isDurable: false,
    problem: '',
    sandboxId,
    template: 'debian',
  });
  const committed = await durable(store, full.id);
  expect(committed).toMatchObject({ isDurable: true, generation: 0, problem: '', machine, diskBytes: BigInt(8 * MiB) });
  expect(committed.builds).toMatchObject([{ id: full.id, generation: 0, memoryBytes: 4n * 4096n }]);
  expect((await store.client.listDisks({}, inMs(5000))).disks).toEqual([]);

  const opened = await openSnapshot(store, full.id, sandboxId);
  expect((await readMemory(opened)).equals(bytesOf(memoryOf(first)))).toBe(true);
  await writeDisk(given(opened.disk).path, 0x22, 3 * MiB);
  // Block 1 is written and the same, 7 is zeroed, 8 is new.
  const diff = await stage(store, dir, { sandboxId, parentId: full.id, touched: { 0: 'A', 1: 'b', 7: '', 8: 'n' } });
  expect(diff).toMatchObject({ generation: 1, parentId: full.id });
  const { builds } = await durable(store, diff.id);
  expect(builds).toMatchObject([
    { id: diff.id, generation: 1, memoryBytes: 2n * 4096n },
    { id: full.id, generation: 0, memoryBytes: 4n * 4096n },
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
  expect(await readFile(old.vmstatePath, 'utf8')).toBe('device state');
  expect(await readdir(join(dir.ram, 'store', 'staged'))).toEqual([]);
  expect(await readdir(join(dir.data, 'staged'))).toEqual([]);
});

test('a staged snapshot opens before it is durable, and what was given out stays good after the commit', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId, diskPath } = await boot(store, dir);
  await writeDisk(diskPath, 0x11, 2 * MiB);
  const full = await stage(store, dir, { sandboxId, touched: first });
  const early = await openSnapshot(store, full.id, sandboxId);
  expect(early).toMatchObject({ runCount: 1, memoryFiles: [{ buildId: full.id, sumsPath: '' }] });
  // While the parent's commit may still run, its child is staged and opened in turn.
  await writeDisk(given(early.disk).path, 0x22, 3 * MiB);
  const diff = await stage(store, dir, { sandboxId, parentId: full.id, touched: { 7: '', 9: 'nine' } });
  const other = await openSnapshot(store, diff.id);
  const expected = bytesOf(memoryOf({ 0: 'a', 1: 'b', 9: 'nine', 200: 'z' }));
  expect((await readMemory(other)).equals(expected)).toBe(true);
  await durable(store, diff.id);
  expect(await readdir(join(dir.ram, 'store', 'staged'))).toEqual([]);
  expect((await readMemory(other)).equals(expected), 'as given out').toBe(true);
  expect(await readFile(other.vmstatePath, 'utf8')).toBe('device state');
  const late = await openSnapshot(store, diff.id);
  expect((await readMemory(late)).equals(expected), 'as committed').toBe(true);
  for (const { disk } of [other, late]) {
    await expectDisk(given(disk).path, [
      [0x11, 2 * MiB],
      [0x22, 3 * MiB],
    ]);
  }
  // The links go with the disk they were given out for.
  await store.client.deleteDisk({ diskId: given(other.disk).id }, inMs(5000));
  await expect(access(other.headerPath)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('many VMs open one staged snapshot at once, each with a disk of its own', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId, diskPath } = await boot(store, dir);
  await writeDisk(diskPath, 0x11, 2 * MiB);
  const full = await stage(store, dir, { sandboxId, touched: first });
  const opened = await Promise.all(Array.from({ length: 8 }, () => openSnapshot(store, full.id)));
  const paths = opened.map(({ disk }) => given(disk).path);
  expect(new Set(paths).size).toBe(8);
  for (const [index, path] of paths.entries()) await writeDisk(path, 0x30 + index, 4 * MiB);
  for (const [index, path] of paths.entries()) {
    await expectDisk(path, [
      [0x11, 2 * MiB],
      [0x30 + index, 4 * MiB],
    ]);
  }
  await durable(store, full.id);
  const { disks } = await store.client.listDisks({}, inMs(5000));
  expect(disks.map((disk) => disk.problem)).toEqual(Array.from({ length: 8 }, () => ''));
});

test('staging again is a success and changes nothing, and under another sandbox it is refused', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId } = await boot(store, dir);
  const full = await stage(store, dir, { sandboxId, touched: first });
  const frozenDirectory = join(dir.ram, `frozen-${sandboxId}`);
  const again = { snapshotId: full.id, sandboxId, frozenDirectory, machine, template: 'debian' };
  expect((await store.client.stageSnapshot(again, inMs(5000))).snapshot).toMatchObject({ id: full.id });
  await durable(store, full.id);
  expect((await store.client.stageSnapshot(again, inMs(5000))).snapshot).toMatchObject({
    id: full.id,
    isDurable: true,
  });
  const other = { ...again, sandboxId: newSandboxId() };
  await expect(store.client.stageSnapshot(other, inMs(5000))).rejects.toMatchObject({ reason: 'SNAPSHOT_EXISTS' });
});

test('what cannot be staged is refused with its reason, and nothing was moved', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId } = await boot(store, dir);
  const frozenDirectory = await freeze(dir, sandboxId, first);
  const good = {
    snapshotId: newSnapshotId() as string,
    sandboxId: sandboxId as string,
    parentId: '',
    frozenDirectory,
    machine,
    template: '',
  };
  const refused = (change: Partial<typeof good>) =>
    expect(store.client.stageSnapshot({ ...good, ...change }, inMs(5000))).rejects;
  await refused({ sandboxId: newSandboxId() }).toMatchObject({ reason: 'DISK_NOT_FOUND' });
  await refused({ frozenDirectory: join(dir.ram, 'missing') }).toMatchObject({ reason: 'SOURCE_NOT_FOUND' });
  await refused({ parentId: newSnapshotId() }).toMatchObject({ reason: 'INVALID_FIELD', meta: { field: 'parent_id' } });
  await refused({ machine: { ...machine, memoryBytes: 4096n } }).toMatchObject({
    meta: { field: 'machine.memory_bytes' },
  });
  await refused({ snapshotId: 'sn-../../../../etc/passwd0000' }).toMatchObject({ meta: { field: 'snapshot_id' } });
  await refused({ frozenDirectory: 'relative' }).toMatchObject({ meta: { field: 'frozen_directory' } });
  // On another filesystem no rename reaches it.
  const far = join(dir.path, 'far');
  await mkdir(far);
  await writeFile(join(far, 'vmstate'), 'v');
  await (await open(join(far, 'ram'), 'w')).close();
  await refused({ frozenDirectory: far }).toMatchObject({ meta: { field: 'frozen_directory' } });
  // The VMM owned the directory: a name in it may lead anywhere.
  const sly = join(dir.ram, 'sly');
  await mkdir(sly);
  await symlink('/etc/shadow', join(sly, 'vmstate'));
  await writeFile(join(sly, 'ram'), Buffer.alloc(Number(machine.memoryBytes)));
  await refused({ frozenDirectory: sly }).toMatchObject({ meta: { field: 'frozen_directory' } });
  expect((await store.client.listSnapshots({}, inMs(5000))).snapshots).toEqual([]);
  expect(await readdir(frozenDirectory)).toEqual(['ram', 'vmstate']);
  expect((await store.client.stageSnapshot(good, inMs(5000))).snapshot).toMatchObject({ id: good.snapshotId });
});

test('a disk that the VMM made stand on another file is not followed', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId, diskPath } = await boot(store, dir);
  const file = await open(diskPath, 'r+');
  const { buffer } = await file.read(Buffer.alloc(1024), 0, 1024, 0);
  const at = Number(buffer.readBigUInt64BE(8));
  await file.write(Buffer.from('/etc/shadow'.padEnd(buffer.readUInt32BE(16), 'x')), 0, 11, at);
  await file.close();
  const full = await stage(store, dir, { sandboxId, touched: first });
  const corrupt = { reason: 'SNAPSHOT_CORRUPT', meta: { file: `disk.${full.id}` } };
  await expect(openSnapshot(store, full.id)).rejects.toMatchObject(corrupt);
  await expect(durable(store, full.id)).rejects.toMatchObject(corrupt);
  expect((await store.client.listDisks({}, inMs(5000))).disks).toEqual([]);
});

test('the working set is the last sound one that was recorded', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId } = await boot(store, dir);
  const recorded = encodeWorkingSet([7, 1, 0]);
  const full = await stage(store, dir, { sandboxId, touched: first, workingSet: recorded });
  expect((await readFile((await openSnapshot(store, full.id)).workingSetPath)).equals(recorded)).toBe(true);
  await durable(store, full.id);
  let parentId = full.id;
  const damaged = Buffer.from(recorded);
  damaged[12]! ^= 1;
  for (const workingSet of [damaged, undefined, encodeWorkingSet([memoryBlocks])]) {
    await openSnapshot(store, parentId, sandboxId);
    const next = await stage(store, dir, { sandboxId, parentId, touched: {}, ...(workingSet && { workingSet }) });
    await durable(store, next.id);
    const { workingSetPath } = await openSnapshot(store, next.id);
    expect((await readFile(workingSetPath)).equals(recorded)).toBe(true);
    parentId = next.id;
  }
});

test('a snapshot with its memory in one plain file restores, and is a parent like any other', async () => {
  await using dir = await workDir();
  let id = '';
  {
    await using store = await startStore(dir);
    const { sandboxId } = await boot(store, dir);
    ({ id } = await stage(store, dir, { sandboxId, touched: first }));
    await durable(store, id);
  }
  await toSingleFile(join(dir.data, 'snapshots', id), bytesOf(memoryOf(first)));
  await using store = await startStore(dir);
  expect(await store.client.verifySnapshot({ snapshotId: id }, inMs(10_000))).toMatchObject({ problems: [] });
  const sandboxId = newSandboxId();
  const opened = await openSnapshot(store, id, sandboxId);
  expect((await readMemory(opened)).equals(bytesOf(memoryOf(first)))).toBe(true);
  expect(opened.memoryFiles).toMatchObject([{ buildId: id, path: expect.stringMatching(/\/memfile$/), sumsPath: '' }]);
  const child = await stage(store, dir, { sandboxId, parentId: id, touched: { 7: '', 3: 'c' } });
  const expected = bytesOf(memoryOf({ 0: 'a', 1: 'b', 3: 'c', 200: 'z' }));
  expect((await readMemory(await openSnapshot(store, child.id))).equals(expected)).toBe(true);
  await durable(store, child.id);
  await store.client.deleteSnapshot({ snapshotId: id }, inMs(5000));
  expect(await store.client.verifySnapshot({ snapshotId: child.id }, inMs(10_000))).toMatchObject({ problems: [] });
  expect((await readMemory(await openSnapshot(store, child.id))).equals(expected)).toBe(true);
});

// Turns a Full into the older form.
async function toSingleFile(home: string, memory: Buffer): Promise<void> {
  const id = home.slice(-28);
  const parsed = parseSnapshotManifest(await readFile(join(home, 'manifest.json'), 'utf8'), id);
  if ('problem' in parsed) throw new Error(parsed.problem);
  const { manifest } = parsed;
  await writeFile(join(home, 'memfile'), memory);
  for (const name of ['memfile.header', `memfile.${id}`, `memfile.${id}.sums`]) {
    delete manifest.files[name];
    await rm(join(home, name));
  }
  manifest.files['memfile'] = { bytes: memory.length, crc32: crc32(memory) };
  await rm(join(home, 'manifest.json'));
  await writeFile(join(home, 'manifest.json'), snapshotManifestText(manifest));
}

test('sizes are what is really occupied, and lists begin with the oldest', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId } = await boot(store, dir);
  const full = await stage(store, dir, { sandboxId, touched: first, count: 16 * 256 });
  await durable(store, full.id);
  await openSnapshot(store, full.id, sandboxId);
  const touched = Object.fromEntries(Array.from({ length: 300 }, (_none, block) => [block * 3, `block ${block}`]));
  const diff = await stage(store, dir, { sandboxId, parentId: full.id, touched, count: 16 * 256 });
  await durable(store, diff.id);
  const { snapshots } = await store.client.listSnapshots({}, inMs(5000));
  expect(snapshots.map(({ id }) => id)).toEqual([full.id, diff.id]);
  const [, listed] = snapshots;
  const memfile = await stat(join(dir.data, 'snapshots', diff.id, `memfile.${diff.id}`));
  expect(memfile.size).toBe(300 * 4096);
  const own = Number(given(listed).ownBytes);
  expect(own).toBeGreaterThanOrEqual(memfile.blocks * 512);
  expect(own).toBeLessThan(memfile.blocks * 512 + 200 * 1024);
});

test('an unknown snapshot is not found, and deleting it is a success', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const snapshotId = newSnapshotId();
  const missing = { reason: 'SNAPSHOT_NOT_FOUND' };
  const call = inMs(5000);
  await expect(store.client.getSnapshot({ snapshotId, waitDurable: true }, call)).rejects.toMatchObject(missing);
  await expect(openSnapshot(store, snapshotId)).rejects.toMatchObject(missing);
  await expect(store.client.verifySnapshot({ snapshotId }, call)).rejects.toMatchObject(missing);
  await expect(store.client.repairSnapshot({ snapshotId }, call)).rejects.toMatchObject(missing);
  await store.client.deleteSnapshot({ snapshotId }, call);
});

test('an image that only a snapshot needs is not deleted, and its old version goes with the snapshot', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId } = await boot(store, dir);
  const full = await stage(store, dir, { sandboxId, touched: first });
  for (const when of ['staged', 'committed']) {
    await expect(store.client.deleteImage({ name: 'debian' }, inMs(5000)), when).rejects.toMatchObject({
      reason: 'IMAGE_IN_USE',
      meta: { snapshot: full.id },
    });
    await durable(store, full.id);
  }
  await store.import('debian', await writeSource(join(dir.path, 'new.raw'), 'new'));
  expect((await store.client.listImages({}, inMs(5000))).images).toHaveLength(2);
  const opened = await openSnapshot(store, full.id);
  await expectDisk(given(opened.disk).path, [['b'.charCodeAt(0), MiB, 1]]);
  await store.client.deleteDisk({ diskId: given(opened.disk).id }, inMs(5000));
  await store.client.deleteSnapshot({ snapshotId: full.id }, inMs(5000));
  expect((await store.client.listImages({}, inMs(5000))).images).toHaveLength(1);
});

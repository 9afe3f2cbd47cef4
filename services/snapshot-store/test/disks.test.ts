import { chown, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import { runProgram } from '@wrenn/kit/run-program';
import { expect, test } from 'vitest';

import { boot, openSnapshot, stage, writeDisk } from './snapshot-fixture.ts';
import { MiB, given, startStore, storeEntries, workDir, writeSource } from './store-fixture.ts';

const GiB = 1024n * BigInt(MiB);
const unprivileged = ['--reuid', '65534', '--regid', '65534', '--clear-groups', '--bounding-set=-all'];

test('a disk is an empty overlay over the newest image, for root alone until it is handed on', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const image = await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
  const diskId = newSandboxId();
  const { disk } = await store.client.createDisk({ diskId, image: 'debian', virtualBytes: 2n * GiB }, inMs(5000));
  const path = join(dir.data, 'disks', diskId, 'disk.qcow2');
  const facts = await stat(path);
  expect(disk).toMatchObject({
    id: diskId,
    image: 'debian',
    imageDigest: image.digest,
    path,
    format: 'qcow2',
    virtualBytes: 2n * GiB,
    realBytes: BigInt(facts.blocks * 512),
    problem: '',
  });
  expect(facts.mode & 0o777).toBe(0o600);
  await runProgram('qemu-img', ['check', '-q', path]);
  expect((await store.client.listDisks({}, inMs(5000))).disks).toEqual([disk]);
  expect((await store.createDisk('debian')).virtualBytes).toBe(image.virtualBytes);
});

test('a VMM without privileges reads the image through its disk, writes the disk, and no other disk', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const source = await writeSource(join(dir.path, 'a.raw'), 'a');
  await store.import('debian', source);
  const [mine, other] = [await store.createDisk('debian'), await store.createDisk('debian')];
  await chown(mine.path, 65_534, 65_534);
  const qemuIo = (...commands: string[]) => runProgram('setpriv', [...unprivileged, 'qemu-io', ...commands]);
  await qemuIo('-c', `read -P 0x61 ${MiB} 4096`, '-c', `write -P 0x62 ${MiB} 4M`, mine.path);
  await expect(qemuIo('-c', 'read 0 512', other.path)).rejects.toThrow('Permission denied');
  const [grown] = (await store.client.listDisks({}, inMs(5000))).disks.filter((disk) => disk.id === mine.id);
  expect(Number(grown?.realBytes) - Number(mine.realBytes)).toBeGreaterThanOrEqual(4 * MiB);
  const { images } = await store.client.listImages({}, inMs(5000));
  expect(images).toMatchObject([{ diskCount: 2 }]);
  const rootfs = join(dir.data, 'images', 'debian', String(images[0]?.digest.slice(7)), 'rootfs.ext4');
  expect((await readFile(rootfs)).equals(await readFile(source))).toBe(true);
});

test('deleting a disk leaves nothing of it, and deleting it again succeeds', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
  const before = await storeEntries(dir.data);
  const { id } = await store.createDisk('debian');
  await store.client.deleteDisk({ diskId: id }, inMs(5000));
  await store.client.deleteDisk({ diskId: id }, inMs(5000));
  expect(await storeEntries(dir.data)).toEqual(before);
});

test('of many calls for one disk at once exactly one makes it', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
  const id = newSandboxId();
  const calls = await Promise.allSettled(Array.from({ length: 8 }, () => store.createDisk('debian', id)));
  expect(calls.filter((call) => call.status === 'fulfilled')).toHaveLength(1);
  for (const call of calls)
    if (call.status === 'rejected') expect(call.reason).toMatchObject({ reason: 'DISK_EXISTS' });
});

test('a deletion that comes while the disk is being made finds it and removes it', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
  const before = await storeEntries(dir.data);
  const id = newSandboxId();
  await Promise.all([store.createDisk('debian', id), store.client.deleteDisk({ diskId: id }, inMs(5000))]);
  expect(await storeEntries(dir.data)).toEqual(before);
});

test('no disk ever loses its image to an import or a deletion that runs beside it', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const sources = await Promise.all(['a', 'b', 'c'].map((each) => writeSource(join(dir.path, `${each}.raw`), each)));
  await store.import('debian', String(sources[0]));
  for (let round = 0; round < 6; round++) {
    const made = Promise.all([store.createDisk('debian'), store.createDisk('debian'), store.createDisk('debian')]);
    const renewed = store.import('debian', String(sources[round % 3]));
    const refused = expect(store.client.deleteImage({ name: 'debian' }, inMs(20_000))).rejects.toMatchObject({
      reason: 'IMAGE_IN_USE',
    });
    const [disks] = await Promise.all([made, renewed, refused]);
    for (const disk of disks) await runProgram('qemu-io', ['-r', '-c', `read ${MiB} 4096`, disk.path]);
    for (const { id } of disks.slice(1)) await store.client.deleteDisk({ diskId: id }, inMs(5000));
  }
  const { disks } = await store.client.listDisks({}, inMs(5000));
  expect(disks.filter((disk) => disk.problem !== '')).toEqual([]);
  for (const { id } of disks) await store.client.deleteDisk({ diskId: id }, inMs(5000));
  expect((await store.client.listImages({}, inMs(5000))).images).toHaveLength(1);
});

test('a disk with a corrupt manifest is shown, keeps its image alone, and can be deleted', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
  await store.import('minimal', await writeSource(join(dir.path, 'b.raw'), 'b'));
  const disk = await store.createDisk('debian');
  const whole = await store.createDisk('debian');
  await writeFile(join(dirname(disk.path), 'manifest.json'), '{"format":"wrenn.disk/1"');
  const { disks } = await store.client.listDisks({}, inMs(5000));
  expect(disks.find((each) => each.id === disk.id)).toMatchObject({
    path: disk.path,
    image: 'debian',
    problem: expect.stringContaining('no JSON'),
  });
  expect(disks.find((each) => each.id === whole.id)).toEqual(whole);
  await store.client.deleteDisk({ diskId: whole.id }, inMs(5000));
  await expect(store.client.deleteImage({ name: 'debian' }, inMs(5000))).rejects.toMatchObject({
    reason: 'IMAGE_IN_USE',
    meta: { disk: disk.id },
  });
  await store.client.deleteImage({ name: 'minimal' }, inMs(5000));
  await expect(store.createDisk('debian', disk.id)).rejects.toMatchObject({ reason: 'DISK_EXISTS' });
  await store.client.deleteDisk({ diskId: disk.id }, inMs(5000));
  await store.client.deleteImage({ name: 'debian' }, inMs(5000));
  expect(await storeEntries(dir.data)).toEqual([]);
});

test('a disk that has lost both manifest and content keeps every image until it is deleted', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
  await store.import('minimal', await writeSource(join(dir.path, 'b.raw'), 'b'));
  const disk = await store.createDisk('debian');
  await rm(disk.path);
  await rm(join(dirname(disk.path), 'manifest.json'));
  expect((await store.client.listDisks({}, inMs(5000))).disks).toMatchObject([
    { id: disk.id, image: '', problem: 'the manifest is missing' },
  ]);
  const busy = { reason: 'IMAGE_IN_USE', meta: { disk: disk.id } };
  await expect(store.client.deleteImage({ name: 'minimal' }, inMs(5000))).rejects.toMatchObject(busy);
  await store.client.deleteDisk({ diskId: disk.id }, inMs(5000));
  await store.client.deleteImage({ name: 'minimal' }, inMs(5000));
});

test('a disk whose file was made to stand on another file is reported, and that file is not opened', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
  const disk = await store.createDisk('debian');
  await runProgram('qemu-img', ['rebase', '-u', '-f', 'qcow2', '-F', 'raw', '-b', '/etc/shadow', disk.path]);
  expect((await store.client.listDisks({}, inMs(5000))).disks).toMatchObject([
    { id: disk.id, image: 'debian', problem: 'the disk file stands on another file than its image' },
  ]);
});

test('a bad id, image or size is refused with its field and leaves nothing', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
  const before = await storeEntries(dir.data);
  const good = { diskId: String(newSandboxId()), image: 'debian', virtualBytes: 0n };
  const refused = (change: Partial<typeof good>) =>
    expect(store.client.createDisk({ ...good, ...change }, inMs(5000)), JSON.stringify(String(Object.values(change))))
      .rejects;
  for (const diskId of ['', '..', 'cl-../../../../etc', `${good.diskId}/x`, `${good.diskId}\n`]) {
    await refused({ diskId }).toMatchObject({ reason: 'INVALID_FIELD', meta: { field: 'disk_id' } });
    await expect(store.client.deleteDisk({ diskId }, inMs(5000))).rejects.toMatchObject({ reason: 'INVALID_FIELD' });
  }
  await refused({ image: '../debian' }).toMatchObject({ reason: 'INVALID_FIELD', meta: { field: 'image' } });
  await refused({ image: 'unknown' }).toMatchObject({ reason: 'IMAGE_NOT_FOUND', meta: { image: 'unknown' } });
  for (const virtualBytes of [1n, 7n * BigInt(MiB), 8n * BigInt(MiB) + 1n, 1025n * GiB, 2n ** 64n - 1n]) {
    await refused({ virtualBytes }).toMatchObject({ reason: 'INVALID_FIELD', meta: { field: 'virtual_bytes' } });
  }
  expect(await storeEntries(dir.data)).toEqual(before);
});

test('a restored VMM without privileges reads the layers below its disk, and changes none of them', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const { sandboxId, diskPath } = await boot(store, dir);
  await writeDisk(diskPath, 0x11, 2 * MiB);
  const { id } = await stage(store, dir, { sandboxId, touched: { 0: 'a' } });
  const { path } = given((await openSnapshot(store, id, sandboxId)).disk);
  await chown(path, 65_534, 65_534);
  const layer = join(dirname(path), `disk.${id}`);
  const asVmm = (...command: string[]) => runProgram('setpriv', [...unprivileged, ...command]);
  await asVmm('qemu-io', '-c', `read -P 0x11 ${2 * MiB} 65536`, '-c', `write -P 0x22 ${3 * MiB} 65536`, path);
  await expect(asVmm('qemu-io', '-c', 'write 0 512', layer)).rejects.toThrow('Permission denied');
  await expect(asVmm('rm', '-f', layer)).rejects.toThrow('Permission denied');
  await expect(asVmm('ls', join(dir.data, 'disks'))).rejects.toThrow('Permission denied');
  await expect(asVmm('ls', join(dir.data, 'snapshots'))).rejects.toThrow('Permission denied');
});

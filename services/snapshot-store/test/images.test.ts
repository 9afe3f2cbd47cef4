import { createHash } from 'node:crypto';
import { chmod, mkdir, readFile, rm, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { MiB, startStore, storeEntries, workDir, writeSource } from './store-fixture.ts';

const hexOf = (digest: string) => digest.slice('sha256:'.length);
const rootfsOf = (dataDir: string, name: string, digest: string) =>
  join(dataDir, 'images', name, hexOf(digest), 'rootfs.ext4');

test('an imported image has the content of its source, keeps its holes and cannot be written', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const source = await writeSource(join(dir.path, 'a.raw'), 'a', 64);
  const image = await store.import('debian', source);
  const content = await readFile(source);
  expect(image).toMatchObject({
    name: 'debian',
    digest: `sha256:${createHash('sha256').update(content).digest('hex')}`,
    virtualBytes: 64n * BigInt(MiB),
    diskCount: 0,
    isCurrent: true,
    problem: '',
  });
  const rootfs = rootfsOf(dir.data, 'debian', image.digest);
  expect((await readFile(rootfs)).equals(content)).toBe(true);
  const { blocks, mode } = await stat(rootfs);
  expect(Number(image.realBytes)).toBe(blocks * 512);
  expect(image.realBytes).toBeLessThan(BigInt(MiB));
  expect(mode & 0o777).toBe(0o444);
});

test('importing a source again changes nothing and does not read it', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const source = await writeSource(join(dir.path, 'a.raw'), 'a');
  const first = await store.import('debian', source);
  const entries = await storeEntries(dir.data);
  await symlink(source, join(dir.path, 'link'));
  expect(await store.import('debian', source)).toEqual(first);
  expect(await store.import('debian', join(dir.path, 'link'))).toEqual(first);
  expect(store.copyCount).toBe(1);
  expect(await storeEntries(dir.data)).toEqual(entries);
});

test('the same content from another file changes nothing and is known from then on', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const first = await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
  const before = await stat(rootfsOf(dir.data, 'debian', first.digest));
  const other = await writeSource(join(dir.path, 'other.raw'), 'a');
  expect(await store.import('debian', other)).toEqual(first);
  expect((await stat(rootfsOf(dir.data, 'debian', first.digest))).ino).toBe(before.ino);
  expect(store.copyCount).toBe(2);
  await store.import('debian', other);
  expect(store.copyCount).toBe(2);
});

test('a source changed in place is noticed although its size and times are as before', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const source = await writeSource(join(dir.path, 'a.raw'), 'a');
  const { atime, mtime } = await stat(source);
  const first = await store.import('debian', source);
  await writeSource(source, 'b');
  await utimes(source, atime, mtime);
  expect((await store.import('debian', source)).digest).not.toBe(first.digest);
});

test('a source written within the last second is read again, since its times prove nothing', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir, 0);
  const source = await writeSource(join(dir.path, 'a.raw'), 'a');
  await store.import('debian', source);
  await store.import('debian', source);
  expect(store.copyCount).toBe(2);
});

test('other content becomes the new version, and the old one goes with its last disk', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const old = await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
  const disk = await store.createDisk('debian');
  const renewed = await store.import('debian', await writeSource(join(dir.path, 'b.raw'), 'b'));
  const list = async () => (await store.client.listImages({}, inMs(5000))).images;
  expect(await list()).toHaveLength(2);
  expect(await list()).toContainEqual({ ...old, diskCount: 1, isCurrent: false });
  expect((await store.createDisk('debian')).imageDigest).toBe(renewed.digest);
  await store.client.deleteDisk({ diskId: disk.id }, inMs(5000));
  expect(await list()).toEqual([{ ...renewed, diskCount: 1 }]);
  await store.import('debian', join(dir.path, 'a.raw'));
  expect((await list()).find((image) => image.isCurrent)?.digest).toBe(old.digest);
});

test('a superseded version without disks is gone at once', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
  const renewed = await store.import('debian', await writeSource(join(dir.path, 'b.raw'), 'b'));
  expect((await store.client.listImages({}, inMs(5000))).images).toEqual([renewed]);
  expect((await storeEntries(dir.data)).filter((entry) => entry.endsWith('rootfs.ext4'))).toHaveLength(1);
});

test('an image that a disk needs is not deleted, also not after a restart, and goes once the disk is gone', async () => {
  await using dir = await workDir();
  let diskId = '';
  {
    await using store = await startStore(dir);
    await store.import('debian', await writeSource(join(dir.path, 'a.raw'), 'a'));
    diskId = (await store.createDisk('debian')).id;
  }
  await using store = await startStore(dir);
  await expect(store.client.deleteImage({ name: 'debian' }, inMs(5000))).rejects.toMatchObject({
    reason: 'IMAGE_IN_USE',
    meta: { disk: diskId },
  });
  await store.client.deleteDisk({ diskId }, inMs(5000));
  await store.client.deleteImage({ name: 'debian' }, inMs(5000));
  expect(await storeEntries(dir.data)).toEqual([]);
  await expect(store.client.deleteImage({ name: 'debian' }, inMs(5000))).rejects.toMatchObject({
    reason: 'IMAGE_NOT_FOUND',
  });
});

test.each([
  ['{', 'no JSON'],
  ['', 'no JSON'],
  ['{"format":"wrenn.image/9"}', 'malformed'],
])('an image whose manifest is %j is shown, not used, and healed by importing it again', async (text, problem) => {
  await using dir = await workDir();
  const source = await writeSource(join(dir.path, 'a.raw'), 'a');
  const other = await writeSource(join(dir.path, 'b.raw'), 'b');
  let digest = '';
  {
    await using store = await startStore(dir);
    ({ digest } = await store.import('debian', source));
    await store.import('minimal', other);
  }
  const rootfs = rootfsOf(dir.data, 'debian', digest);
  await writeFile(join(dirname(rootfs), 'manifest.json'), text);
  await using store = await startStore(dir);
  const { images } = await store.client.listImages({}, inMs(5000));
  expect(images.map((image) => [image.name, image.problem])).toEqual([
    ['debian', expect.stringContaining(problem)],
    ['minimal', ''],
  ]);
  await expect(store.createDisk('debian')).rejects.toMatchObject({
    reason: 'IMAGE_CORRUPT',
    meta: { image: 'debian' },
  });
  await store.createDisk('minimal');
  expect(await store.import('debian', source)).toMatchObject({ digest, problem: '', isCurrent: true });
  expect((await store.createDisk('debian')).problem).toBe('');
});

test('an image whose content was cut is refused and healed by importing it again', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const source = await writeSource(join(dir.path, 'a.raw'), 'a');
  const { digest } = await store.import('debian', source);
  const rootfs = rootfsOf(dir.data, 'debian', digest);
  await chmod(rootfs, 0o644);
  await truncate(rootfs, 512);
  await expect(store.createDisk('debian')).rejects.toMatchObject({ reason: 'IMAGE_CORRUPT' });
  await store.import('debian', source);
  expect((await readFile(rootfs)).equals(await readFile(source))).toBe(true);
  expect((await stat(rootfs)).mode & 0o777).toBe(0o444);
});

test('what a crash leaves between publishing a version and naming it current does no harm', async () => {
  await using dir = await workDir();
  const source = await writeSource(join(dir.path, 'a.raw'), 'a');
  {
    await using store = await startStore(dir);
    await store.import('debian', source);
  }
  const home = join(dir.data, 'images', 'debian');
  await rm(join(home, 'current'));
  await writeFile(join(home, 'current.tmp-0123'), 'torn');
  await mkdir(join(dir.data, 'images', 'empty'));
  await using store = await startStore(dir);
  const { images } = await store.client.listImages({}, inMs(5000));
  expect(images.map(({ name, isCurrent }) => ({ name, isCurrent }))).toEqual([{ name: 'debian', isCurrent: false }]);
  expect((await storeEntries(dir.data)).some((entry) => /tmp-|empty/.test(entry))).toBe(false);
  await expect(store.createDisk('debian')).rejects.toMatchObject({ reason: 'IMAGE_CORRUPT' });
  expect(await store.import('debian', source)).toMatchObject({ isCurrent: true });
  expect(store.copyCount).toBe(0);
});

test('a bad source or name is refused with its field and leaves nothing', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const source = await writeSource(join(dir.path, 'a.raw'), 'a');
  const odd = join(dir.path, 'odd.raw');
  await writeFile(odd, 'x'.repeat(513));
  await writeFile(join(dir.path, 'empty.raw'), '');
  await runProgram('mkfifo', [join(dir.path, 'fifo')]);
  const refused = (name: string, sourcePath: string) =>
    expect(store.client.importImage({ name, sourcePath }, inMs(5000)), `${name} ${sourcePath}`).rejects;
  await refused('debian', join(dir.path, 'missing.raw')).toMatchObject({ reason: 'SOURCE_NOT_FOUND' });
  await refused('debian', join(source, 'below')).toMatchObject({ reason: 'SOURCE_NOT_FOUND' });
  for (const path of ['', 'a.raw', '/a\0b', dir.path, odd, join(dir.path, 'empty.raw'), join(dir.path, 'fifo')]) {
    await refused('debian', path).toMatchObject({ reason: 'INVALID_FIELD', meta: { field: 'source_path' } });
  }
  for (const name of ['', '..', 'a/b', '../x', 'Debian', '-a', 'a'.repeat(64), 'a\n']) {
    await refused(name, source).toMatchObject({ reason: 'INVALID_FIELD', meta: { field: 'name' } });
  }
  expect(await storeEntries(dir.data)).toEqual([]);
});

test('a caller who leaves during an import leaves nothing behind', async () => {
  await using dir = await workDir();
  await using store = await startStore(dir);
  const source = join(dir.path, 'big.raw');
  await runProgram('dd', ['if=/dev/urandom', `of=${source}`, 'bs=1M', 'count=64']);
  const leave = new AbortController();
  const call = store.client.importImage({ name: 'debian', sourcePath: source }, inMs(20_000, leave.signal));
  const settled = expect(call).rejects.toMatchObject({ reason: 'CANCELLED' });
  await waitForCopy(store);
  leave.abort();
  await settled;
  await untilGone(dir.data);
});

async function waitForCopy(store: { readonly copyCount: number }): Promise<void> {
  await eventually('the copy has begun', () => store.copyCount > 0);
}

async function untilGone(dataDir: string): Promise<void> {
  await eventually('the store is empty', async () => (await storeEntries(dataDir)).length === 0);
}

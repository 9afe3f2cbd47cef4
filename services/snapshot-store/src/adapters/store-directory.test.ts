import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { openLog } from '@wrenn/kit/log';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { RamDirectory } from './ram-directory.ts';
import { StoreDirectory } from './store-directory.ts';

const digest = `sha256:${'0f'.repeat(32)}`;

test('a directory serves one store at a time', async () => {
  await using dir = await tempDir();
  const first = await StoreDirectory.open(dir.path);
  await expect(StoreDirectory.open(dir.path)).rejects.toThrow('held by another');
  first.close();
  (await StoreDirectory.open(dir.path)).close();
});

test('a RAM directory serves one store at a time and is gone when it was closed empty', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'ram');
  const first = await RamDirectory.open(path, openLog('test', 'silent'));
  await expect(RamDirectory.open(path, openLog('test', 'silent'))).rejects.toThrow('held by another');
  await mkdir(join(first.staged, 'kept'));
  await first.close();
  expect(await readdir(join(path, 'staged'))).toEqual(['kept']);
  const second = await RamDirectory.open(path, openLog('test', 'silent'));
  second.discard(join(second.staged, 'kept'));
  await second.close();
  expect(await readdir(dir.path)).toEqual([]);
});

test('what was staged and never published is gone after the next start', async () => {
  await using dir = await tempDir();
  const first = await StoreDirectory.open(dir.path);
  const staged = await first.stage();
  await mkdir(join(staged, 'deep'));
  await writeFile(join(staged, 'deep', 'rootfs.ext4'), 'half');
  first.close();
  const second = await StoreDirectory.open(dir.path);
  expect(await readdir(join(dir.path, 'tmp'))).toEqual([]);
  second.close();
});

test('publishing over something that exists fails and changes nothing', async () => {
  await using dir = await tempDir();
  const store = await StoreDirectory.open(dir.path);
  const path = join(store.disks, 'one');
  for (const content of ['first', 'second']) {
    const staged = await store.stage();
    await writeFile(join(staged, content), '');
    const published = store.publish(staged, path);
    await (content === 'first' ? published : expect(published).rejects.toMatchObject({ code: 'ENOTEMPTY' }));
  }
  expect(await readdir(path)).toEqual(['first']);
  store.close();
});

test('removing leaves nothing behind and says whether there was something', async () => {
  await using dir = await tempDir();
  const store = await StoreDirectory.open(dir.path);
  const staged = await store.stage();
  await writeFile(join(staged, 'file'), '');
  await store.publish(staged, join(store.disks, 'one'));
  expect(await store.remove(join(store.disks, 'one'))).toBe(true);
  expect(await store.remove(join(store.disks, 'one'))).toBe(false);
  expect([...(await readdir(store.disks)), ...(await readdir(join(dir.path, 'tmp')))]).toEqual([]);
  store.close();
});

test('an image is found by its path, and by no other path', async () => {
  await using dir = await tempDir();
  const store = await StoreDirectory.open(dir.path);
  const path = store.imagePath('debian', digest);
  expect(store.imageAt(path)).toEqual({ name: 'debian', digest });
  for (const other of ['/etc/shadow', join(path, 'x'), path.replace('debian', '../images/debian'), store.images, '']) {
    expect(store.imageAt(other), other).toBeUndefined();
  }
  store.close();
});

import { chmod, mkdir, open, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { VerifiedFiles } from './verified-files.ts';

async function verifiedFile(dir: string) {
  const files = new VerifiedFiles();
  const path = join(dir, 'file');
  await writeFile(path, 'content');
  files.accept(files.mark(path)!, 'content');
  const isVerified = (at = path, expected = 'content') => files.isVerified(files.mark(at)!, expected);
  return { files, path, isVerified };
}

test('a file is verified until it changes, whatever its times are set to', async () => {
  await using dir = await tempDir();
  const { path, isVerified } = await verifiedFile(dir.path);
  expect(isVerified()).toBe(true);
  expect(isVerified(path, 'other')).toBe(false);
  const { atime, mtime } = await stat(path);
  const file = await open(path, 'r+');
  await file.write('C');
  await file.close();
  await utimes(path, atime, mtime);
  expect(isVerified()).toBe(false);
});

test('another file of the same name and size is not verified', async () => {
  await using dir = await tempDir();
  const { path, isVerified } = await verifiedFile(dir.path);
  await writeFile(`${path}.new`, 'content');
  await rename(`${path}.new`, path);
  expect(isVerified()).toBe(false);
});

test('our own links and removals leave a file verified under all its names', async () => {
  await using dir = await tempDir();
  const { files, path, isVerified } = await verifiedFile(dir.path);
  await mkdir(join(dir.path, 'disk'));
  files.link(path, join(dir.path, 'disk', 'layer'));
  expect([isVerified(), isVerified(join(dir.path, 'disk', 'layer'))]).toEqual([true, true]);
  await files.remove(join(dir.path, 'disk'));
  expect(isVerified()).toBe(true);
  await expect(stat(join(dir.path, 'disk'))).rejects.toMatchObject({ code: 'ENOENT' });
});

test('a change between two of our links is not covered up', async () => {
  await using dir = await tempDir();
  const { files, path, isVerified } = await verifiedFile(dir.path);
  await writeFile(path, 'CONTENT');
  files.link(path, join(dir.path, 'other'));
  expect(isVerified()).toBe(false);
});

test('a mode changed by somebody else makes it read again', async () => {
  await using dir = await tempDir();
  const { path, isVerified } = await verifiedFile(dir.path);
  await chmod(path, 0o600);
  expect(isVerified()).toBe(false);
  await rm(path);
});

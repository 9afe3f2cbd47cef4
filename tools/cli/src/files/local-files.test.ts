import { mkdir, readFile, readdir, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { describeLocal, walkLocal, writeLocal } from './local-files.ts';

const never = new AbortController().signal;
async function* pieces(...texts: string[]) {
  for (const text of texts) yield Buffer.from(text);
}
async function* breakingOff() {
  yield Buffer.from('half');
  throw new Error('it broke off');
}

test('a file appears whole, with its mode, in place of what was there', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'file');
  await writeFile(path, 'old and longer');
  await writeLocal(path, 0o750, pieces('ne', 'w'), never);
  expect(await readFile(path, 'utf8')).toBe('new');
  expect((await stat(path)).mode & 0o777).toBe(0o750);
  expect(await readdir(dir.path)).toEqual(['file']);
});

test('a transfer that breaks off, or is given up, leaves the old file and nothing beside it', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'file');
  await writeFile(path, 'old');
  await expect(writeLocal(path, 0o644, breakingOff(), never)).rejects.toThrow('it broke off');
  const leave = new AbortController();
  async function* standingStill() {
    yield Buffer.from('half');
    const left = new Promise((_resolve, reject) =>
      leave.signal.addEventListener('abort', () => reject(new Error('left'))),
    );
    leave.abort();
    await left;
  }
  await expect(writeLocal(path, 0o644, standingStill(), leave.signal)).rejects.toThrow(/abort|left/);
  expect(await readFile(path, 'utf8')).toBe('old');
  expect(await readdir(dir.path)).toEqual(['file']);
});

test('a link is written through and stays one; a device is written to', async () => {
  await using dir = await tempDir();
  await writeFile(join(dir.path, 'target'), 'old');
  await symlink('target', join(dir.path, 'link'));
  await writeLocal(join(dir.path, 'link'), 0o644, pieces('new'), never);
  expect(await readFile(join(dir.path, 'target'), 'utf8')).toBe('new');
  expect(await readlink(join(dir.path, 'link'))).toBe('target');
  await writeLocal('/dev/null', 0o644, pieces('gone'), never);
  expect((await stat('/dev/null')).isCharacterDevice()).toBe(true);
});

test('a tree is walked parents first, links to files as files, links to directories not at all', async () => {
  await using dir = await tempDir();
  await mkdir(join(dir.path, 'a/b'), { recursive: true });
  await writeFile(join(dir.path, 'a/b/file'), 'x');
  await symlink('b/file', join(dir.path, 'a/to-file'));
  await symlink('..', join(dir.path, 'a/to-parent'));
  await symlink('nowhere', join(dir.path, 'a/broken'));
  const seen = await Array.fromAsync(walkLocal(dir.path), ({ relativePath, kind }) => `${kind} ${relativePath}`);
  expect(seen).toEqual(['directory a', 'directory a/b', 'file a/b/file', 'file a/to-file', 'other a/to-parent']);
});

test('what is not there, also below a file, is told apart from what cannot be looked at', async () => {
  expect(await describeLocal('/no/such')).toBeUndefined();
  expect(await describeLocal('/etc/passwd/x')).toBeUndefined();
  await expect(describeLocal(`/${'x'.repeat(300)}`)).rejects.toThrow(/ENAMETOOLONG/);
});

import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';
import { hashInputs } from './inputs.ts';

async function sources(root: string): Promise<void> {
  await mkdir(join(root, 'src/deep'), { recursive: true });
  await writeFile(join(root, 'src/a'), 'one');
  await writeFile(join(root, 'src/deep/b'), 'two');
}

test('the hash follows the content of files at any depth', async () => {
  await using dir = await tempDir();
  await sources(dir.path);
  const before = await hashInputs({ root: dir.path, paths: ['src'] });
  expect(await hashInputs({ root: dir.path, paths: ['src'] })).toBe(before);
  await writeFile(join(dir.path, 'src/deep/b'), 'three');
  expect(await hashInputs({ root: dir.path, paths: ['src'] })).not.toBe(before);
});

test('the hash follows names: a renamed file is another input', async () => {
  await using dir = await tempDir();
  await sources(dir.path);
  const before = await hashInputs({ root: dir.path, paths: ['src'] });
  await rename(join(dir.path, 'src/a'), join(dir.path, 'src/c'));
  expect(await hashInputs({ root: dir.path, paths: ['src'] })).not.toBe(before);
});

test('the hash does not depend on where the repository lies', async () => {
  await using here = await tempDir();
  await using there = await tempDir();
  await sources(here.path);
  await sources(there.path);
  const hashes = [here, there].map((dir) => hashInputs({ root: dir.path, paths: ['src/a', 'src/deep'] }));
  expect(await hashes[0]).toBe(await hashes[1]);
});

test('build output beside the sources does not change the hash', async () => {
  await using dir = await tempDir();
  await sources(dir.path);
  const before = await hashInputs({ root: dir.path, paths: ['src'] });
  await mkdir(join(dir.path, 'src/target'));
  await writeFile(join(dir.path, 'src/target/binary'), 'x');
  expect(await hashInputs({ root: dir.path, paths: ['src'] })).toBe(before);
});

test('values count, and cannot run into one another', async () => {
  await using dir = await tempDir();
  const hash = (...values: string[]): Promise<string> => hashInputs({ root: dir.path, paths: [], values });
  expect(await hash('a', 'b')).not.toBe(await hash('ab'));
  expect(await hash('a')).not.toBe(await hash('b'));
});

test('an input that is not there is an error, not an empty input', async () => {
  await using dir = await tempDir();
  await expect(hashInputs({ root: dir.path, paths: ['missing'] })).rejects.toThrow(/ENOENT/);
});

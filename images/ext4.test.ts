import { chmod, chown, mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runProgram } from '@wrenn/kit/run-program';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';
import { makeExt4 } from './ext4.ts';

const MiB = 2 ** 20;

test('an image holds the tree with owners and modes, is clean, and takes little more room than its content', async () => {
  await using dir = await tempDir();
  const tree = join(dir.path, 'tree');
  await mkdir(join(tree, 'home/user'), { recursive: true });
  await writeFile(join(tree, 'home/user/hello'), 'hello');
  await chmod(join(tree, 'home/user/hello'), 0o640);
  await chown(join(tree, 'home/user/hello'), 1000, 1000);
  const image = join(dir.path, 'image');
  await makeExt4(tree, image, { virtualBytes: 64 * MiB, journalMiB: 4 });

  await runProgram('e2fsck', ['-fn', image]);
  expect(await runProgram('debugfs', ['-R', 'cat /home/user/hello', image])).toBe('hello');
  const inode = await runProgram('debugfs', ['-R', 'stat /home/user/hello', image]);
  expect(inode).toMatch(/Mode: +0640/);
  expect(inode).toMatch(/User: +1000 +Group: +1000/);
  const { size, blocks } = await stat(image);
  expect(size).toBe(64 * MiB);
  expect(blocks * 512).toBeLessThan(8 * MiB);
});

test('an image can grow to a disk of 64 GiB', async () => {
  await using dir = await tempDir();
  const tree = join(dir.path, 'tree');
  await mkdir(tree);
  const image = join(dir.path, 'image');
  await makeExt4(tree, image, { virtualBytes: 64 * MiB, journalMiB: 4 });
  await runProgram('truncate', ['--size=64G', image]);
  await runProgram('resize2fs', [image], { timeoutMs: 20_000 });
  const superblock = await runProgram('dumpe2fs', ['-h', image]);
  expect(superblock).toMatch(/Block count: +16777216/);
  expect((await stat(image)).blocks * 512).toBeLessThan(512 * MiB);
});

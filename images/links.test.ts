import { mkdir, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';
import { Links } from './links.ts';

test('a link follows to its newest target', async () => {
  await using dir = await tempDir();
  const links = new Links(dir.path);
  await links.point('templates/minimal', '/one');
  await links.point('templates/minimal', '/two');
  expect(await readlink(join(dir.path, 'templates/minimal'))).toBe('/two');
  expect(await readdir(join(dir.path, 'templates'))).toEqual(['minimal']);
});

test('a template whose recipe is gone loses its link', async () => {
  await using dir = await tempDir();
  const links = new Links(dir.path);
  await mkdir(join(dir.path, 'result'));
  await links.point('templates/minimal', join(dir.path, 'result'));
  await links.point('templates/old', join(dir.path, 'result'));
  await links.keepOnly('templates', ['minimal']);
  expect(await readdir(join(dir.path, 'templates'))).toEqual(['minimal']);
  expect(await readdir(dir.path)).toContain('result');
});

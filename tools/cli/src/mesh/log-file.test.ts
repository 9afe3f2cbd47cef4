import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { openForAppend, rotateIfLarge, tailOf } from './log-file.ts';

test('a log that grew too large is set aside while its writer goes on appending', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'logs/service.log');
  const file = await openForAppend(path);
  await file.write('a'.repeat(100));
  expect(await rotateIfLarge(path, 100)).toBe(false);
  await file.write('b');
  expect(await rotateIfLarge(path, 100)).toBe(true);
  await file.write('c');
  await file.close();
  expect(await readFile(path, 'utf8')).toBe('c');
  expect(await readFile(`${path}.1`, 'utf8')).toBe(`${'a'.repeat(100)}b`);
});

test('the tail of a log is its last lines, however long it is', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'x.log');
  await writeFile(path, Array.from({ length: 50_000 }, (_, i) => `line ${i}\n`).join(''));
  expect(await tailOf(path, 2)).toBe('line 49998\nline 49999');
  await writeFile(path, '');
  expect(await tailOf(path)).toBe('');
});

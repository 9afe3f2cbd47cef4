import { execFile } from 'node:child_process';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';
import { packNewc, type Entry } from './newc.ts';

const entries: Entry[] = [
  { kind: 'directory', path: 'dev', mode: 0o755 },
  { kind: 'character', path: 'dev/console', mode: 0o600, device: [5, 1] },
  { kind: 'directory', path: 'mod', mode: 0o755 },
  // Lengths that are no multiple of four must not shift what follows.
  { kind: 'file', path: 'mod/odd', mode: 0o644, content: Buffer.from('12345') },
  { kind: 'file', path: 'init', mode: 0o755, content: Buffer.from('#!/bin/true\n') },
];

test('cpio unpacks the archive to the same names, contents, modes and device numbers', async () => {
  await using dir = await tempDir();
  const archive = join(dir.path, 'archive');
  await writeFile(archive, packNewc(entries));
  await promisify(execFile)('sh', ['-c', 'mkdir out && cd out && cpio --quiet -id <../archive'], { cwd: dir.path });
  const at = (path: string): string => join(dir.path, 'out', path);
  expect(await readFile(at('mod/odd'), 'utf8')).toBe('12345');
  expect(await readFile(at('init'), 'utf8')).toBe('#!/bin/true\n');
  expect((await stat(at('init'))).mode & 0o7777).toBe(0o755);
  const console = await stat(at('dev/console'));
  expect(console.isCharacterDevice()).toBe(true);
  expect(console.rdev).toBe((5 << 8) | 1);
});

test('the same entries give the same bytes', () => {
  expect(packNewc(entries)).toEqual(packNewc(structuredClone(entries)));
});

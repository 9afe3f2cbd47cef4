import { open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { Qcow2Overlay } from './qcow2-overlay.ts';

const backend = new Qcow2Overlay(runProgram);
const GiB = 1024 ** 3;

async function overlay(dir: string, virtualBytes: number): Promise<{ path: string; basePath: string }> {
  const basePath = join(dir, 'base, with comma.raw');
  await writeFile(basePath, '');
  await truncate(basePath, 1 << 20);
  const path = join(dir, 'disk.qcow2');
  await backend.create({ path, backingName: basePath, backingFormat: 'raw', virtualBytes });
  return { path, basePath };
}

test('a disk says of itself what it was made with', async () => {
  await using dir = await tempDir();
  const { path, basePath } = await overlay(dir.path, 5 * GiB);
  const facts = { backingName: basePath, backingFormat: 'raw', virtualBytes: 5 * GiB, isPlain: true };
  expect(await backend.inspect(path)).toEqual(facts);
  await runProgram('qemu-img', ['check', '-q', path]);
});

test('a disk is never made over one that is there', async () => {
  await using dir = await tempDir();
  const { path, basePath } = await overlay(dir.path, GiB);
  const before = await readFile(path);
  await expect(
    backend.create({ path, backingName: basePath, backingFormat: 'raw', virtualBytes: 2 * GiB }),
  ).rejects.toMatchObject({ code: 'EEXIST' });
  expect((await readFile(path)).equals(before)).toBe(true);
});

test('a header that a guest has damaged is refused, whatever it claims', async () => {
  await using dir = await tempDir();
  const { path } = await overlay(dir.path, GiB);
  const damage = async (offset: number, bytes: readonly number[]) => {
    const file = await open(path, 'r+');
    await file.write(Uint8Array.from(bytes), 0, bytes.length, offset);
    await file.close();
  };
  await damage(16, [0xff, 0xff, 0xff, 0xff]); // A backing file name of 4 GiB.
  await expect(backend.inspect(path)).rejects.toThrow('malformed');
  await damage(16, [0, 0, 0, 9]);
  await damage(8, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]); // At an offset beyond any file.
  await expect(backend.inspect(path)).rejects.toThrow('malformed');
  await damage(0, [0]);
  await expect(backend.inspect(path)).rejects.toThrow('no qcow2 file');
  await truncate(path, 10);
  await expect(backend.inspect(path)).rejects.toThrow('no qcow2 file');
});

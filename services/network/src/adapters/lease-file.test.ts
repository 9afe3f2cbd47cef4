import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { newSandboxId, type SandboxId } from '@wrenn/kit/ids';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { LeaseFile } from './lease-file.ts';

const range = { first: 1, last: 99 };

test('starts empty where there is no file yet', async () => {
  await using dir = await tempDir();
  expect(await new LeaseFile(join(dir.path, 'leases.json')).read(range)).toEqual(new Map());
});

test('every saver finds its change on disk, in fewer writes than savers', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'leases.json');
  const file = new LeaseFile(path);
  const leases = new Map<SandboxId, number>();
  let writes = 0;
  const current = () => {
    writes += 1;
    return new Map(leases);
  };
  await Promise.all(
    Array.from({ length: 50 }, async (_, i) => {
      const owner = newSandboxId();
      leases.set(owner, i + 1);
      await file.save(current);
      expect(await readFile(path, 'utf8')).toContain(owner);
    }),
  );
  expect(await new LeaseFile(path).read(range)).toEqual(leases);
  expect(writes).toBeLessThan(10);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test('tells the saver whose write failed, and only that one', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'leases.json');
  const file = new LeaseFile(path);
  const broken = file.save(() => {
    throw new Error('not now');
  });
  await expect(broken).rejects.toThrow('not now');
  await file.save(() => new Map());
  expect(await file.read(range)).toEqual(new Map());
});

test('refuses a damaged file with its path and what to do', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'leases.json');
  await writeFile(path, '{"version":1,"lea');
  const reading = new LeaseFile(path).read(range);
  await expect(reading).rejects.toThrow(path);
  await expect(new LeaseFile(path).read(range)).rejects.toThrow(/Restore the file .* or end every VM on this host/s);
});

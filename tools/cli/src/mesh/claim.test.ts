import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { AlreadyRunning, claimRunDir, isClaimed } from './claim.ts';

test('one run directory has one supervisor, until it lets go', async () => {
  await using dir = await tempDir();
  expect(await isClaimed(dir.path)).toBe(false);
  const claim = await claimRunDir(dir.path);
  expect(await isClaimed(dir.path)).toBe(true);
  await expect(claimRunDir(dir.path)).rejects.toThrow(AlreadyRunning);
  await claim.release();
  expect(await isClaimed(dir.path)).toBe(false);
  await (await claimRunDir(dir.path)).release();
});

test('run directories do not get in each other’s way', async () => {
  await using dir = await tempDir();
  const claim = await claimRunDir(dir.path);
  expect(await isClaimed(`${dir.path}2`)).toBe(false);
  await claim.release();
});

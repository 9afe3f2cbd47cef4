import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { claimSlots } from './claim.ts';

// Nothing is made under these numbers, so that this may run beside any mesh.
const range = { first: 30_000, last: 30_009 };

test('one state directory serves one service at a time', async () => {
  await using dir = await tempDir();
  const claim = await claimSlots(range, dir.path);
  const other = { first: 30_010, last: 30_019 };
  await expect(claimSlots(other, dir.path)).rejects.toThrow(`uses the state directory ${dir.path}`);
  await claim.close();
  await (await claimSlots(other, dir.path)).close();
});

test.each([
  [30_000, 30_009],
  [30_005, 30_015],
  [29_990, 30_000],
  [30_003, 30_004],
  [29_990, 30_050],
])('refuses slots %i to %i, which another service has a part of', async (first, last) => {
  await using a = await tempDir();
  await using b = await tempDir();
  const claim = await claimSlots(range, a.path);
  await expect(claimSlots({ first, last }, b.path)).rejects.toThrow(/another network service/);
  await claim.close();
});

import { newSandboxId } from '@wrenn/kit/ids';
import { expect, test } from 'vitest';

import { planRecovery } from './recovery.ts';
import { slotAt } from './slot.ts';

const range = { first: 1, last: 6 };
const [running, rebooted, damaged] = [newSandboxId(), newSandboxId(), newSandboxId()];

test('keeps whole leased slots, gives up the others, and frees only what is not there', () => {
  const leases = new Map([
    [running, 1],
    [rebooted, 2],
    [damaged, 3],
  ]);
  const plan = planRecovery(range, leases, { present: new Set([1, 3, 4]), whole: new Set([1]) });
  expect(plan).toEqual({
    adopted: new Map([[running, slotAt(1)]]),
    lost: [rebooted, damaged],
    stale: [slotAt(3), slotAt(4)],
    free: [2, 5, 6],
  });
});

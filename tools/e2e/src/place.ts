// Two suites run at a time, each in a place of its own: a data directory, in which images are imported and
// the database is made once a run, and half of the network slots that are set aside for tests.
import { join } from 'node:path';

import { inject } from 'vitest';

import type { Place } from './mesh.ts';

export const workers = 2;
const slots = { first: 20_100, count: 64 } as const;
// Of a run beside another one, which names its first slot by WRENN_E2E_FIRST_SLOT.
const ownCount = 32;

export function ownPlace(): Place {
  const worker = (Number(process.env['VITEST_POOL_ID'] ?? '1') - 1) % workers;
  const own = process.env['WRENN_E2E_FIRST_SLOT'];
  const { first, count } = own ? { first: Number(own), count: ownCount } : slots;
  const share = count / workers;
  const firstSlot = first + worker * share;
  return { dataDir: join(inject('dataDir'), `worker-${worker}`), firstSlot, lastSlot: firstSlot + share - 1 };
}

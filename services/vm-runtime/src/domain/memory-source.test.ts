import { expect, test } from 'vitest';

import { type MemoryFacts, cheapestSource } from './memory-source.ts';

const MiB = 2 ** 20;
const facts = (some: Partial<MemoryFacts>): MemoryFacts => ({
  runCount: 100,
  changedBytes: 8 * MiB,
  workingSetPages: 0,
  ...some,
});

test.each([
  ['little changes and no working set is known', {}, 'map'],
  ['nothing is known of what changes', { changedBytes: 0, runCount: 1 }, 'map'],
  [
    'much is known to be touched and changed, since a pause must not wait for it',
    { changedBytes: 400 * MiB, workingSetPages: 100_000 },
    'uffd',
  ],
  ['memory is scattered over more runs than a process may map', { runCount: 40_000 }, 'uffd'],
] as const)('when %s', (_why, some, source) => {
  expect(cheapestSource(facts(some))).toBe(source);
});

import { createServer } from 'node:net';
import { join } from 'node:path';

import { newSandboxId } from '@wrenn/kit/ids';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import type { RunningMachine } from '../domain/usage-sampler.ts';
import { PagerFigures } from './pager-figures.ts';

test('counters of all pagers are summed, and a pager that ends takes nothing away', async () => {
  await using dir = await tempDir();
  const machines: RunningMachine[] = [1, 2].map((pid) => ({
    sandboxId: newSandboxId(),
    processes: { vmm: { pid: 100 + pid, startTicks: 1 }, memory: 'uffd', pager: { pid, startTicks: 1 } },
  }));
  const faults = [3, 4];
  const servers = await Promise.all(
    machines.map(async ({ sandboxId }, n) => {
      const server = createServer((socket) => {
        const service_us = Array.from({ length: 24 }, (_, slot) => (slot === 6 ? faults[n] : 0));
        socket.end(`${JSON.stringify({ faults: faults[n], prefetched_pages: 1, copied_bytes: 4096, service_us })}\n`);
      });
      await new Promise<void>((resolve) => server.listen(join(dir.path, sandboxId), resolve));
      return server;
    }),
  );
  const figures = new PagerFigures(
    () => machines,
    (id) => join(dir.path, id),
  );
  const count = async () => {
    const families = await figures.read();
    const buckets = families.find(({ name }) => name.endsWith('fault_seconds'))?.samples[0]?.buckets ?? [];
    return [families[0]?.samples[0]?.value, buckets.reduce((sum, bucket) => sum + bucket.count, 0)];
  };
  expect(await count()).toEqual([2, 7]);
  faults[1] = 10;
  expect(await count()).toEqual([2, 13]);
  machines.pop();
  expect(await count()).toEqual([1, 13]);
  for (const server of servers) server.close();
});

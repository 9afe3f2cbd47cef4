import { statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { openLog } from '@wrenn/kit/log';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { partialHandlers } from '@wrenn/kit/testkit/partial';
import { serveForTest } from '@wrenn/kit/testkit/serve';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { type ReportHostRequest, SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { expect, test } from 'vitest';

import { HostReport, guestDiskBytes } from './host-report.ts';

const GiB = 2 ** 30;
const MiB = 2 ** 20;
const facts = {
  hostId: 'here',
  address: '127.0.0.1:1',
  bulkAddress: '127.0.0.1:2',
  vmm: 'qemu 7',
  accelerator: 'tcg',
  memoryBytes: 5 * GiB,
};

// A file system of a known size.
async function disk(bytes: number): Promise<AsyncDisposable & { readonly path: string }> {
  const dir = await tempDir();
  await runProgram('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'wrenn-test', dir.path]);
  return {
    path: dir.path,
    async [Symbol.asyncDispose]() {
      await runProgram('umount', [dir.path]);
      await dir[Symbol.asyncDispose]();
    },
  };
}

test('what disks take already counts as room for disks, what others take does not', async () => {
  await using dir = await disk(2 * GiB);
  expect(await guestDiskBytes(dir.path, 0)).toBe(4 * GiB);
  await writeFile(join(dir.path, 'file'), Buffer.alloc(16 * MiB));
  expect(await guestDiskBytes(dir.path, 16 * MiB)).toBe(4 * GiB);
  expect(await guestDiskBytes(dir.path, 0)).toBe(4 * (GiB - 16 * MiB));
});

test('a host without room says so; nothing would mean that it does not know', async () => {
  await using dir = await disk(MiB);
  expect(await guestDiskBytes(dir.path, 0)).toBe(1);
});

test('reports what the host can hold as it is now, and goes on when its peers fail for a while', async () => {
  const reports: ReportHostRequest[] = [];
  let failure: Error | undefined;
  let failureCount = 0;
  await using scheduler = await serveForTest(
    SchedulerService,
    partialHandlers(SchedulerService, {
      async reportHost(request) {
        reports.push(request);
        return {};
      },
    }),
  );
  const orFail = async (value: number) => {
    if (!failure) return value;
    failureCount++;
    throw failure;
  };
  let isStoreUp = true;
  const capacity = {
    slotCount: () => orFail(64),
    diskBytes: async () => {
      if (!isStoreUp) throw new Error('the store is down');
      return guestDiskBytes('/', 0);
    },
  };
  const report = new HostReport(scheduler.lanes, facts, capacity, openLog('test', 'silent'));
  await eventually('it reports', () => reports.length > 0);
  const { bsize, blocks } = await statfs('/');
  const told = reports[0]?.capacity;
  expect(told).toMatchObject({ slotCount: 64, memoryBytes: BigInt(facts.memoryBytes) });
  expect(told?.diskBytes).toBeGreaterThan(0n);
  expect(told?.diskBytes).toBeLessThanOrEqual(4n * BigInt(bsize * blocks));
  failure = new Error('the network is down');
  await eventually('it tries in vain', () => failureCount > 0);
  const count = reports.length;
  failure = undefined;
  isStoreUp = false;
  await eventually('it reports again', () => reports.length > count);
  expect(reports.at(-1)?.capacity?.diskBytes, 'as it was').toBeGreaterThan(0n);
  await report.close();
});

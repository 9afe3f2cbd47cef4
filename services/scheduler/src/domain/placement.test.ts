import { hasReason } from '@wrenn/kit/errors';
import { expect, test } from 'vitest';

import type { HostLoad } from './host.ts';
import { leastLoaded } from './placement.ts';

const now = new Date('2026-11-23T12:00:00Z');
const MiB = 1024 * 1024;
const GiB = 1024 * MiB;
const need = { vcpuCount: 1, memoryBytes: 512 * MiB, diskBytes: 1 * GiB };

function host(id: string, changes: Partial<HostLoad> = {}): HostLoad {
  return {
    id,
    address: `${id}:9472`,
    cpuCount: 2,
    memoryBytes: 4 * GiB,
    slotCount: 10,
    vmm: 'qemu',
    accelerator: 'tcg',
    reportedAt: now,
    sandboxCount: 0,
    placedMemoryBytes: 0,
    bulkAddress: '',
    diskBytes: 0,
    placedVcpuCount: 0,
    placedDiskBytes: 0,
    ...changes,
  };
}

function refusal(hosts: HostLoad[]): string {
  try {
    leastLoaded(hosts, need, now);
  } catch (error) {
    if (hasReason(error, 'NO_HOST_LEFT')) return error.message;
    throw error;
  }
  throw new Error('a host was chosen');
}

test('takes the host that is least full, in memory or in slots', () => {
  const memoryFull = host('a', { placedMemoryBytes: 3 * GiB, sandboxCount: 1 });
  const slotsFull = host('b', { sandboxCount: 8, placedMemoryBytes: 64 * MiB });
  const middling = host('c', { sandboxCount: 4, placedMemoryBytes: 2 * GiB });
  expect(leastLoaded([memoryFull, slotsFull, middling], need, now).id).toBe('c');
});

test('decides ties by id, whatever the order given', () => {
  expect(leastLoaded([host('b'), host('a')], need, now).id).toBe('a');
});

test('fills a host to the last byte and the last slot', () => {
  expect(leastLoaded([host('a', { placedMemoryBytes: 3.5 * GiB })], need, now).id).toBe('a');
  expect(leastLoaded([host('a', { sandboxCount: 9 })], need, now).id).toBe('a');
  expect(refusal([host('a', { placedMemoryBytes: 3.5 * GiB + 1 })])).toMatch(/511 MiB of memory left, 512 are needed/);
  expect(refusal([host('a', { sandboxCount: 10 })])).toMatch(/all of its 10 slots/);
});

test('takes a host that reported 15 s ago and none that was silent longer', () => {
  const ago = (ms: number) => ({ reportedAt: new Date(now.getTime() - ms) });
  expect(leastLoaded([host('a', ago(15_000))], need, now).id).toBe('a');
  expect(refusal([host('a', ago(15_001))])).toMatch(/a has been silent/);
});

test('says of every host why it was refused', () => {
  expect(refusal([])).toMatch(/no host ever reported/);
  const hosts = [host('a', { sandboxCount: 10 }), host('b', { slotCount: 0 })];
  expect(refusal(hosts)).toMatch(/a has all of its 10 slots in use; b has all of its 0 slots in use/);
});

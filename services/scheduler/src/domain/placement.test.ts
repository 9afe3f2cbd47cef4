import { hasReason } from '@wrenn/kit/errors';
import { expect, test } from 'vitest';

import type { HostLoad } from './host.ts';
import { type Need, leastLoaded } from './placement.ts';

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

function refusalOf(hosts: HostLoad[], changes: Partial<Need> = {}) {
  try {
    leastLoaded(hosts, { ...need, ...changes }, now);
  } catch (error) {
    if (hasReason(error, 'NO_HOST_LEFT')) return error;
    throw error;
  }
  throw new Error('a host was chosen');
}
const refusal = (hosts: HostLoad[]) => refusalOf(hosts).message;

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

test('fills a host’s processors eightfold and its disk to the last byte', () => {
  expect(leastLoaded([host('a', { placedVcpuCount: 15 })], need, now).id).toBe('a');
  expect(refusal([host('a', { placedVcpuCount: 16 })])).toMatch(/a has 0 vCPUs left, 1 are needed/);
  const disk = (placed: number) => host('a', { diskBytes: 10 * GiB, placedDiskBytes: placed });
  expect(leastLoaded([disk(9 * GiB)], need, now).id).toBe('a');
  expect(refusal([disk(9 * GiB + 1)])).toMatch(/a has 1023 MiB of disk left, 1024 are needed/);
});

test('takes a host that does not say how much disk it has for unlimited', () => {
  expect(leastLoaded([host('a', { placedDiskBytes: 2 ** 50 })], need, now).id).toBe('a');
});

test('says what ran out, and the most that one host has left of everything', () => {
  const hosts = [
    host('a', { sandboxCount: 10, placedMemoryBytes: 1 * GiB }),
    host('b', { placedMemoryBytes: 4 * GiB, placedVcpuCount: 16, sandboxCount: 3 }),
    host('gone', { reportedAt: new Date(0) }),
  ];
  const error = refusalOf(hosts);
  expect(error.message).toBe(
    'no host can take the sandbox: a has all of its 10 slots in use; ' +
      'b has 0 MiB of memory left, 512 are needed and 0 vCPUs left, 1 are needed; gone has been silent for more than 15 s',
  );
  expect(error.meta).toEqual({
    ran_out: 'slot_count,memory_bytes,vcpu_count',
    free_slot_count: '7',
    needed_slot_count: '1',
    free_memory_bytes: String(3 * GiB),
    needed_memory_bytes: String(512 * MiB),
    free_vcpu_count: '16',
    needed_vcpu_count: '1',
    needed_disk_bytes: String(GiB),
  });
});

test('says when no host could take it even if it were empty', () => {
  expect(refusalOf([host('a'), host('b')], { memoryBytes: 5 * GiB }).meta).toMatchObject({ too_large: 'memory_bytes' });
  expect(refusalOf([host('a', { sandboxCount: 10 })]).meta).not.toHaveProperty('too_large');
  expect(refusalOf([]).meta).toMatchObject({ ran_out: 'hosts' });
});

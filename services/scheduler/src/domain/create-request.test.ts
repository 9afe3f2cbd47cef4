import { create } from '@bufbuild/protobuf';
import { WrennError } from '@wrenn/kit/errors';
import { SandboxServiceCreateRequestSchema } from '@wrenn/proto/wrenn/v1/sandbox';
import { describe, expect, test } from 'vitest';

import { requireCreateRequest, specOf } from './create-request.ts';

const MiB = 1024n * 1024n;
const GiB = 1024n * MiB;
const seconds = (count: number, nanos = 0) => ({ seconds: BigInt(count), nanos });

const template = {
  name: 'debian',
  image: 'debian',
  description: '',
  vcpuCount: 2,
  memoryBytes: Number(512n * MiB),
  diskBytes: Number(2n * GiB),
  defaultUser: 'user',
};

function read(
  fields: Omit<Parameters<typeof create<typeof SandboxServiceCreateRequestSchema>>[1] & object, '$typeName'>,
) {
  return requireCreateRequest(create(SandboxServiceCreateRequestSchema, { template: 'debian', ...fields }));
}

function fieldRefused(fields: Parameters<typeof read>[0]): string | undefined {
  try {
    read(fields);
  } catch (error) {
    if (error instanceof WrennError && error.reason === 'INVALID_FIELD') return error.meta['field'];
    throw error;
  }
  return undefined;
}

test('takes the template’s values where the request names none, and an hour to live', () => {
  expect(specOf(read({}), template)).toMatchObject({
    vcpuCount: 2,
    memoryBytes: template.memoryBytes,
    diskBytes: template.diskBytes,
    ttlMs: 3_600_000,
  });
});

test('prefers the values of the request', () => {
  const request = read({ vcpuCount: 4, memoryBytes: 128n * MiB, diskBytes: 3n * GiB, ttl: seconds(1, 500_000_000) });
  expect(specOf(request, template)).toMatchObject({
    vcpuCount: 4,
    memoryBytes: Number(128n * MiB),
    diskBytes: Number(3n * GiB),
    ttlMs: 1500,
  });
});

describe('accepts the bounds of each field and refuses what lies beyond', () => {
  const metadataOf = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, 'v']));
  test.each([
    ['template', { template: 'a' }, { template: '' }],
    ['template', { template: 'a'.repeat(63) }, { template: 'a'.repeat(64) }],
    ['template', { template: 'a-1' }, { template: 'Debian' }],
    ['template', { template: 'a' }, { template: '../a' }],
    ['vcpu_count', { vcpuCount: 32 }, { vcpuCount: 33 }],
    ['memory_bytes', { memoryBytes: 96n * MiB }, { memoryBytes: 94n * MiB }],
    ['memory_bytes', { memoryBytes: 64n * GiB }, { memoryBytes: 64n * GiB + 2n * MiB }],
    ['memory_bytes', { memoryBytes: 98n * MiB }, { memoryBytes: 97n * MiB }],
    ['memory_bytes', { memoryBytes: 128n * MiB }, { memoryBytes: 2n ** 64n - 1n }],
    ['disk_bytes', { diskBytes: MiB }, { diskBytes: MiB + 1n }],
    ['disk_bytes', { diskBytes: 1024n * GiB }, { diskBytes: 1024n * GiB + MiB }],
    ['ttl', { ttl: seconds(1) }, { ttl: seconds(0, 999_000_000) }],
    ['ttl', { ttl: seconds(86_400) }, { ttl: seconds(86_400, 1_000_000) }],
    ['ttl', { ttl: seconds(1) }, { ttl: seconds(-5) }],
    ['project', { project: 'a'.repeat(63) }, { project: 'a'.repeat(64) }],
    ['project', { project: '' }, { project: 'Team' }],
    ['request_id', { requestId: 'aZ0_-' }, { requestId: 'a b' }],
    ['request_id', { requestId: 'a'.repeat(64) }, { requestId: 'a'.repeat(65) }],
    ['queue_timeout', { queueTimeout: seconds(600) }, { queueTimeout: seconds(600, 1_000_000) }],
    ['queue_timeout', { queueTimeout: seconds(0) }, { queueTimeout: seconds(-1) }],
    ['env', { env: { _A1: '' } }, { env: { '1A': '' } }],
    ['env', { env: { A: 'x' } }, { env: { A: '\0' } }],
    ['env', { env: { A: 'x'.repeat(65_533) } }, { env: { A: 'x'.repeat(65_534) } }],
    ['metadata', { metadata: metadataOf(32) }, { metadata: metadataOf(33) }],
    ['metadata', { metadata: { k: '' } }, { metadata: { '': 'v' } }],
    ['metadata', { metadata: { ['k'.repeat(63)]: '' } }, { metadata: { ['k'.repeat(64)]: '' } }],
    ['metadata', { metadata: { k: 'v'.repeat(256) } }, { metadata: { k: 'v'.repeat(257) } }],
    ['metadata', { metadata: { k: 'é' } }, { metadata: { k: 'a\0b' } }],
  ])('%s', (field, good, bad) => {
    expect(fieldRefused(good)).toBeUndefined();
    expect(fieldRefused(bad)).toBe(field);
  });
});

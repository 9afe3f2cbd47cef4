import { create } from '@bufbuild/protobuf';
import { WrennError } from '@wrenn/kit/errors';
import { QuotaSchema } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { expect, test } from 'vitest';

import { type Amounts, requireQuota, requireWithinQuota } from './quota.ts';

const none: Amounts = { sandboxCount: 0, vcpuCount: 0, memoryBytes: 0, diskBytes: 0 };
const need: Amounts = { sandboxCount: 1, vcpuCount: 2, memoryBytes: 300, diskBytes: 4000 };

function refusal(quota: Partial<Amounts>, used: Partial<Amounts> = {}): WrennError | undefined {
  try {
    requireWithinQuota({ project: 'p', ...none, ...quota }, { ...none, ...used }, need);
  } catch (error) {
    if (error instanceof WrennError) return error;
    throw error;
  }
  return undefined;
}

test.each([
  ['sandbox_count', 'sandboxCount', 1],
  ['vcpu_count', 'vcpuCount', 2],
  ['memory_bytes', 'memoryBytes', 300],
  ['disk_bytes', 'diskBytes', 4000],
] as const)('lets a project use its %s to the last, and names it when it is used up', (resource, field, needed) => {
  expect(refusal({ [field]: 10 * needed }, { [field]: 9 * needed })).toBeUndefined();
  const error = refusal({ [field]: 10 * needed }, { [field]: 9 * needed + 1 });
  expect(error).toMatchObject({
    reason: 'QUOTA_EXCEEDED',
    meta: { project: 'p', resource, limit: `${10 * needed}`, used: `${9 * needed + 1}`, needed: `${needed}` },
  });
  expect(error?.meta).not.toHaveProperty('too_large');
});

test('takes 0 as no limit', () => {
  expect(refusal({}, { sandboxCount: 1e6, memoryBytes: 2 ** 52 })).toBeUndefined();
});

test('says when even an empty project could not hold it', () => {
  expect(refusal({ memoryBytes: 299 })?.meta).toMatchObject({ too_large: 'memory_bytes' });
});

test.each([
  ['quota.project', { project: '' }],
  ['quota.project', { project: 'A' }],
  ['quota.sandbox_count', { sandboxCount: 1_000_001 }],
  ['quota.memory_bytes', { memoryBytes: 2n ** 53n }],
])('refuses a quota for its %s', (field, change) => {
  const read = (fields: object) => () => requireQuota(create(QuotaSchema, { project: 'p', ...fields }));
  expect(read({})).not.toThrow();
  expect(read(change)).toThrow(new RegExp(`^${field}: `));
});

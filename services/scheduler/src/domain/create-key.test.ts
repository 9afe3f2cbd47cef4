import { expect, test } from 'vitest';

import { createKeyOf } from './create-key.ts';
import type { CreateRequest } from './create-request.ts';

const request: CreateRequest = {
  project: 'default',
  requestId: 'r1',
  queueTimeoutMs: 0,
  template: 'debian',
  vcpuCount: undefined,
  memoryBytes: undefined,
  diskBytes: undefined,
  ttlMs: 1000,
  env: { A: '1', B: '2' },
  metadata: {},
  onTimeout: 'destroy',
  autoResume: false,
  access: { isSecure: false, publicPorts: [] },
};
const digest = (changes: Partial<CreateRequest>) => createKeyOf({ ...request, ...changes })?.digest;

test('has no key without an id', () => {
  expect(createKeyOf({ ...request, requestId: undefined })).toBeUndefined();
});

test('takes a request for the same whatever the order of its maps and the time it may wait', () => {
  expect(digest({ env: { B: '2', A: '1' }, queueTimeoutMs: 5000 })).toBe(digest({}));
});

test.each([
  { template: 'minimal' },
  { vcpuCount: 1 },
  { memoryBytes: 1 },
  { diskBytes: 1 },
  { ttlMs: 1001 },
  { env: { A: '1' } },
  { env: { A: '1', B: '2,C' } },
  { env: {}, metadata: { A: '1', B: '2' } },
])('tells requests apart by %o', (changes) => {
  expect(digest(changes)).not.toBe(digest({}));
});

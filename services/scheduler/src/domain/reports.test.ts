import { create } from '@bufbuild/protobuf';
import { WrennError } from '@wrenn/kit/errors';
import { PutTemplateRequestSchema, ReportHostRequestSchema } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { expect, test } from 'vitest';

import { requireHostReport } from './host-report.ts';
import { requireTemplate } from './template-request.ts';

const MiB = 1024n * 1024n;
const template = { name: 'debian', image: 'debian', vcpuCount: 1, memoryBytes: 512n * MiB, diskBytes: 2048n * MiB };
const capacity = { cpuCount: 2, memoryBytes: 4096n * MiB, slotCount: 0, vmm: 'qemu 7.2', accelerator: 'tcg' };
const report = { hostId: '0-host', address: 'h:9472', capacity };

function fieldRefused(check: () => unknown): string | undefined {
  try {
    check();
  } catch (error) {
    if (error instanceof WrennError && error.reason === 'INVALID_FIELD') return error.meta['field'];
    throw error;
  }
  return undefined;
}

test.each([
  ['template.name', { name: '' }],
  ['template.name', { name: '1a' }],
  ['template.image', { image: '../x' }],
  ['template.vcpu_count', { vcpuCount: 0 }],
  ['template.memory_bytes', { memoryBytes: 63n * MiB }],
  ['template.disk_bytes', { diskBytes: MiB + 1n }],
  ['template.description', { description: 'x'.repeat(1001) }],
  ['template.description', { description: '\0' }],
  ['template.default_user', { defaultUser: 'root:x' }],
])('refuses a template for its %s', (field, change) => {
  const read = (fields: object) => () =>
    requireTemplate(create(PutTemplateRequestSchema, { template: { ...template, ...fields } }).template);
  expect(fieldRefused(read({}))).toBeUndefined();
  expect(fieldRefused(read(change))).toBe(field);
});

test.each([
  ['host_id', { hostId: '' }],
  ['host_id', { hostId: 'A' }],
  ['address', { address: 'nowhere' }],
  ['address', { address: 'a\0b:1' }],
  ['bulk_address', { bulkAddress: 'nowhere' }],
  ['capacity.disk_bytes', { capacity: { ...capacity, diskBytes: 2n ** 53n } }],
  ['capacity', { capacity: undefined }],
  ['capacity.cpu_count', { capacity: { ...capacity, cpuCount: 0 } }],
  ['capacity.memory_bytes', { capacity: { ...capacity, memoryBytes: 0n } }],
  ['capacity.slot_count', { capacity: { ...capacity, slotCount: 32_768 } }],
  ['capacity.vmm', { capacity: { ...capacity, vmm: '\0' } }],
])('refuses a host’s report for its %s', (field, change) => {
  const read = (fields: object) => () => requireHostReport(create(ReportHostRequestSchema, { ...report, ...fields }));
  expect(fieldRefused(read({}))).toBeUndefined();
  expect(fieldRefused(read(change))).toBe(field);
});

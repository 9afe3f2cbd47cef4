import { invalidField } from '@wrenn/kit/errors';
import { requireBytesWithin, requireWithin } from '@wrenn/kit/validate';
import type { ReportHostRequest } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';

import type { HostReport } from './host.ts';

const idPattern = /^[a-z0-9-]{1,63}$/;
const addressPattern = /^(unix:\/[^\s\0]+|[^/\s\0]+:\d{1,5})$/;

export function requireHostReport({ hostId, address, bulkAddress, capacity }: ReportHostRequest): HostReport {
  if (!idPattern.test(hostId)) throw invalidField('host_id', 'must be 1 to 63 characters a-z, 0-9, -');
  requireAddress(address, 'address');
  if (bulkAddress !== '') requireAddress(bulkAddress, 'bulk_address');
  if (!capacity) throw invalidField('capacity', 'must be set');
  return {
    id: hostId,
    address,
    bulkAddress,
    cpuCount: requireWithin(capacity.cpuCount, 'capacity.cpu_count', 1, 65_536),
    memoryBytes: requireBytesWithin(capacity.memoryBytes, 'capacity.memory_bytes', 1, 2 ** 52, 1),
    slotCount: requireWithin(capacity.slotCount, 'capacity.slot_count', 0, 32_767),
    diskBytes: requireBytesWithin(capacity.diskBytes, 'capacity.disk_bytes', 0, 2 ** 52, 1),
    vmm: requireLabel(capacity.vmm, 'capacity.vmm'),
    accelerator: requireLabel(capacity.accelerator, 'capacity.accelerator'),
  };
}

function requireAddress(value: string, field: string): void {
  if (value.length > 300 || !addressPattern.test(value)) throw invalidField(field, 'must be host:port or unix:/path');
}

function requireLabel(value: string, field: string): string {
  if (value.length > 100 || value.includes('\0')) throw invalidField(field, 'must be at most 100 characters');
  return value;
}

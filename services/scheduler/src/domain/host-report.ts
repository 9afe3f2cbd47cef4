import { invalidField } from '@wrenn/kit/errors';
import { requireBytesWithin, requireWithin } from '@wrenn/kit/validate';
import type { ReportHostRequest } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';

import type { HostReport } from './host.ts';

const idPattern = /^[a-z0-9-]{1,63}$/;
const addressPattern = /^(unix:\/[^\s\0]+|[^/\s\0]+:\d{1,5})$/;

export function requireHostReport({ hostId, address, capacity }: ReportHostRequest): HostReport {
  if (!idPattern.test(hostId)) throw invalidField('host_id', 'must be 1 to 63 characters a-z, 0-9, -');
  if (address.length > 300 || !addressPattern.test(address)) {
    throw invalidField('address', 'must be host:port or unix:/path');
  }
  if (!capacity) throw invalidField('capacity', 'must be set');
  return {
    id: hostId,
    address,
    cpuCount: requireWithin(capacity.cpuCount, 'capacity.cpu_count', 1, 65_536),
    memoryBytes: requireBytesWithin(capacity.memoryBytes, 'capacity.memory_bytes', 1, 2 ** 52, 1),
    slotCount: requireWithin(capacity.slotCount, 'capacity.slot_count', 0, 32_767),
    vmm: requireLabel(capacity.vmm, 'capacity.vmm'),
    accelerator: requireLabel(capacity.accelerator, 'capacity.accelerator'),
  };
}

function requireLabel(value: string, field: string): string {
  if (value.length > 100 || value.includes('\0')) throw invalidField(field, 'must be at most 100 characters');
  return value;
}

// What a project may hold at once, over all its sandboxes that are not over.
import { WrennError, invalidField } from '@wrenn/kit/errors';
import { requireBytesWithin, requireName, requireWithin } from '@wrenn/kit/validate';
import type { Quota as QuotaMessage } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';

export interface Amounts {
  readonly sandboxCount: number;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

// 0: no limit.
export interface Quota extends Amounts {
  readonly project: string;
}

const maxCount = 1_000_000;
const resources = [
  ['sandboxCount', 'sandbox_count'],
  ['vcpuCount', 'vcpu_count'],
  ['memoryBytes', 'memory_bytes'],
  ['diskBytes', 'disk_bytes'],
] as const;

export function requireQuota(quota: QuotaMessage | undefined): Quota {
  if (!quota) throw invalidField('quota', 'must be set');
  return {
    project: requireName(quota.project, 'quota.project'),
    sandboxCount: requireWithin(quota.sandboxCount, 'quota.sandbox_count', 0, maxCount),
    vcpuCount: requireWithin(quota.vcpuCount, 'quota.vcpu_count', 0, maxCount),
    memoryBytes: requireBytesWithin(quota.memoryBytes, 'quota.memory_bytes', 0, 2 ** 52, 1),
    diskBytes: requireBytesWithin(quota.diskBytes, 'quota.disk_bytes', 0, 2 ** 52, 1),
  };
}

// Throws QUOTA_EXCEEDED naming the first resource of which `need` on top of `used` is too much.
export function requireWithinQuota(quota: Quota, used: Amounts, need: Amounts): void {
  for (const [field, resource] of resources) {
    const limit = quota[field];
    if (limit === 0 || used[field] + need[field] <= limit) continue;
    const { project } = quota;
    throw new WrennError(
      'QUOTA_EXCEEDED',
      `project ${project} uses ${used[field]} of its ${limit} ${resource}; this takes ${need[field]} more`,
      {
        meta: {
          project,
          resource,
          limit: String(limit),
          used: String(used[field]),
          needed: String(need[field]),
          // Waiting for others to end does not help then.
          ...(need[field] > limit && { too_large: resource }),
        },
      },
    );
  }
}

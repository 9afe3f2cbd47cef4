import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';

import type { SandboxState } from '../domain/sandbox-state.ts';
import type { Sandbox, TimeoutAction } from '../domain/sandbox.ts';

// bigint columns come as text.
export interface SandboxRow {
  readonly id: string;
  readonly project: string;
  readonly template: string;
  readonly state: SandboxState;
  readonly error_reason: string;
  readonly error_message: string;
  readonly host_id: string | null;
  readonly guest_address: string;
  readonly vcpu_count: number;
  readonly memory_bytes: string;
  readonly disk_bytes: string;
  readonly ttl_ms: number;
  readonly metadata: Record<string, string>;
  readonly on_timeout: TimeoutAction;
  readonly auto_resume: boolean;
  readonly secure: boolean;
  readonly public_ports: number[];
  readonly traffic_token: string;
  readonly access_token: string;
  readonly snapshot_id: string | null;
  readonly is_durable: boolean;
  readonly previous_snapshot_id: string | null;
  readonly next_snapshot_id: string | null;
  readonly version: string;
  readonly created_at: Date;
  readonly state_changed_at: Date;
  readonly expires_at: Date;
}

export function sandboxOf(row: SandboxRow): Sandbox {
  return {
    id: row.id as SandboxId,
    project: row.project,
    template: row.template,
    state: row.state,
    errorReason: row.error_reason,
    errorMessage: row.error_message,
    hostId: row.host_id ?? undefined,
    guestAddress: row.guest_address,
    vcpuCount: row.vcpu_count,
    memoryBytes: Number(row.memory_bytes),
    diskBytes: Number(row.disk_bytes),
    ttlMs: row.ttl_ms,
    metadata: row.metadata,
    onTimeout: row.on_timeout,
    autoResume: row.auto_resume,
    access: {
      isSecure: row.secure,
      publicPorts: row.public_ports,
      trafficToken: row.traffic_token,
      accessToken: row.access_token,
    },
    snapshotId: snapshotIdOf(row.snapshot_id),
    isDurable: row.is_durable,
    previousSnapshotId: snapshotIdOf(row.previous_snapshot_id),
    nextSnapshotId: snapshotIdOf(row.next_snapshot_id),
    version: Number(row.version),
    createdAt: row.created_at,
    stateChangedAt: row.state_changed_at,
    expiresAt: row.expires_at,
  };
}

function snapshotIdOf(text: string | null): SnapshotId | undefined {
  return text === null ? undefined : (text as SnapshotId);
}

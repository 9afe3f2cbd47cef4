// New sandboxes, placed on their host. Recorded and placed are two changes that commit together.
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';
import type { Knex } from 'knex';

import { type PortAccess, newAccess } from '../domain/access.ts';
import type { TimeoutAction, Sandbox } from '../domain/sandbox.ts';
import type { Settings } from '../domain/snapshot.ts';
import { appendEvents } from './postgres-events.ts';
import { type SandboxRow, sandboxOf } from './sandbox-row.ts';

export interface NewSandbox {
  readonly id: SandboxId;
  readonly project: string;
  readonly template: string;
  readonly hostId: string;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly ttlMs: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly onTimeout: TimeoutAction;
  readonly autoResume: boolean;
  readonly access: PortAccess;
  readonly settings: Settings;
  readonly snapshot: { readonly id: SnapshotId; readonly isDurable: boolean } | undefined;
  readonly fork?: { readonly id: SandboxId; readonly index: number };
}

export async function insertSandboxes(
  tx: Knex.Transaction,
  sandboxes: readonly NewSandbox[],
  now: Date,
): Promise<Sandbox[]> {
  const rows = (await tx('sandboxes').insert(
    sandboxes.map((each) => rowOf(each, now)),
    '*',
  )) as SandboxRow[];
  await tx('sandbox_environments').insert(
    sandboxes.map(({ id, settings }) => ({
      sandbox_id: id,
      env: JSON.stringify(settings.env),
      default_user: settings.defaultUser,
    })),
  );
  return rows.map(sandboxOf);
}

// Must be the last step of the transaction.
export async function appendPlaced(tx: Knex.Transaction, ids: readonly SandboxId[], at: Date): Promise<void> {
  await appendEvents(
    tx,
    ids.flatMap((sandboxId) => [
      { sandboxId, from: undefined, to: 'pending' as const, reason: 'REQUESTED', at },
      { sandboxId, from: 'pending' as const, to: 'starting' as const, reason: 'PLACED', at },
    ]),
  );
}

function rowOf(sandbox: NewSandbox, now: Date) {
  const access = newAccess(sandbox.access);
  return {
    id: sandbox.id,
    project: sandbox.project,
    template: sandbox.template,
    state: 'starting',
    host_id: sandbox.hostId,
    vcpu_count: sandbox.vcpuCount,
    memory_bytes: sandbox.memoryBytes,
    disk_bytes: sandbox.diskBytes,
    ttl_ms: sandbox.ttlMs,
    metadata: JSON.stringify(sandbox.metadata),
    on_timeout: sandbox.onTimeout,
    auto_resume: sandbox.autoResume,
    secure: access.isSecure,
    public_ports: access.publicPorts,
    traffic_token: access.trafficToken,
    access_token: access.accessToken,
    snapshot_id: sandbox.snapshot?.id ?? null,
    is_durable: sandbox.snapshot?.isDurable ?? false,
    fork_id: sandbox.fork?.id ?? null,
    fork_index: sandbox.fork?.index ?? null,
    version: 2,
    created_at: now,
    state_changed_at: now,
    expires_at: new Date(now.getTime() + sandbox.ttlMs),
  };
}

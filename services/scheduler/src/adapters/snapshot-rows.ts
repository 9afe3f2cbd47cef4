import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';
import { WrennError } from '@wrenn/kit/errors';
import type { Knex } from 'knex';

import type { SnapshotOrigin } from '../domain/create-request.ts';
import type { HostLoad } from '../domain/host.ts';
import type { Sandbox } from '../domain/sandbox.ts';
import type { NamedSnapshot, Snapshot } from '../domain/snapshot.ts';

// bigint columns come as text. The environment, which may be large, is read where it is needed only.
export interface SnapshotRow {
  readonly id: string;
  readonly host_id: string;
  readonly sandbox_id: string;
  readonly project: string;
  readonly template: string;
  readonly default_user: string;
  readonly vcpu_count: number;
  readonly memory_bytes: string;
  readonly disk_bytes: string;
  readonly keeps_running: boolean;
  readonly generation: number;
  readonly is_durable: boolean;
  readonly created_at: Date;
}

export interface NamedRow extends SnapshotRow {
  readonly name: string;
  readonly request_id: string | null;
  readonly named_of: string;
  readonly named_at: Date;
}

const columns = [
  ...['id', 'host_id', 'sandbox_id', 'project', 'template', 'default_user', 'vcpu_count', 'memory_bytes'],
  ...['disk_bytes', 'keeps_running', 'generation', 'is_durable', 'created_at'],
];
export const snapshotColumns = columns.map((column) => `snapshots.${column}`);

export function snapshotOf(row: SnapshotRow): Snapshot {
  return {
    id: row.id as SnapshotId,
    hostId: row.host_id,
    sandboxId: row.sandbox_id as SandboxId,
    project: row.project,
    template: row.template,
    defaultUser: row.default_user,
    vcpuCount: row.vcpu_count,
    memoryBytes: Number(row.memory_bytes),
    diskBytes: Number(row.disk_bytes),
    keepsRunning: row.keeps_running,
    generation: row.generation,
    isDurable: row.is_durable,
    createdAt: row.created_at,
  };
}

export function namedOf(row: NamedRow): NamedSnapshot {
  return {
    ...snapshotOf(row),
    name: row.name,
    requestId: row.request_id ?? undefined,
    namedOf: row.named_of as SandboxId,
    namedAt: row.named_at,
  };
}

// What a sandbox is to be frozen into, recorded before its host hears of it.
export async function insertSnapshot(
  tx: Knex.Transaction,
  id: SnapshotId,
  of: Sandbox,
  keepsRunning: boolean,
  now: Date,
): Promise<void> {
  await tx.raw(
    `insert into snapshots (id, host_id, sandbox_id, project, template, default_user, vcpu_count, memory_bytes,
       disk_bytes, env, keeps_running, created_at)
     select ?, s.host_id, s.id, s.project, s.template, coalesce(e.default_user, t.default_user), s.vcpu_count,
       s.memory_bytes, s.disk_bytes, coalesce(e.env, '{}'), ?, ?
     from sandboxes s join templates t on t.name = s.template
       left join sandbox_environments e on e.sandbox_id = s.id
     where s.id = ?`,
    [id, keepsRunning, now, of.id],
  );
}

// Where a sandbox may be placed. A snapshot is on one host; its name is held until the transaction ends, so
// that it is not deleted from under a sandbox that is being placed.
export async function hostsFor(
  tx: Knex.Transaction,
  snapshot: SnapshotOrigin | undefined,
  all: readonly HostLoad[],
): Promise<readonly HostLoad[]> {
  if (!snapshot) return all;
  const { id, name, hostId } = snapshot;
  const held = await tx('snapshot_names').where({ name, snapshot_id: id }).forShare().first();
  if (!held)
    throw new WrennError('TEMPLATE_NOT_FOUND', `no template or snapshot ${name}`, { meta: { template: name } });
  return all.filter((host) => host.id === hostId);
}

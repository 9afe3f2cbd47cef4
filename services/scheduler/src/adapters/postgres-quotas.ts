import type { Knex } from 'knex';

import type { QuotaStore } from '../domain/ports.ts';
import { type Amounts, type Quota, requireWithinQuota } from '../domain/quota.ts';
import { liveStates } from '../domain/sandbox-state.ts';
import type { Database } from './postgres.ts';

interface QuotaRow {
  readonly project: string;
  readonly sandbox_count: number;
  readonly vcpu_count: number;
  readonly memory_bytes: string;
  readonly disk_bytes: string;
}

export class PostgresQuotas implements QuotaStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async put(quota: Quota): Promise<void> {
    const row = {
      project: quota.project,
      sandbox_count: quota.sandboxCount,
      vcpu_count: quota.vcpuCount,
      memory_bytes: quota.memoryBytes,
      disk_bytes: quota.diskBytes,
    };
    await this.#database.run(async (db) => db('quotas').insert(row).onConflict('project').merge());
  }

  // Throws QUOTA_EXCEEDED. The project's row is locked until the transaction ends: of two creates that
  // race for the last of something, the second counts the first.
  async requireRoom(tx: Knex.Transaction, project: string, need: Amounts): Promise<void> {
    const row = await tx<QuotaRow>('quotas').where({ project }).forUpdate().first();
    if (!row) return;
    // A paused one is still one sandbox with a disk; memory and processors it has given back.
    const used: Record<string, unknown> | undefined = await tx('sandboxes')
      .count({ sandboxCount: '*' })
      .sum({ diskBytes: 'disk_bytes' })
      .select(
        tx.raw(`sum(vcpu_count) filter (where state <> 'paused') as "vcpuCount"`),
        tx.raw(`sum(memory_bytes) filter (where state <> 'paused') as "memoryBytes"`),
      )
      .where({ project })
      .whereIn('state', liveStates)
      .first();
    requireWithinQuota(
      {
        project,
        sandboxCount: row.sandbox_count,
        vcpuCount: row.vcpu_count,
        memoryBytes: Number(row.memory_bytes),
        diskBytes: Number(row.disk_bytes),
      },
      {
        sandboxCount: Number(used?.['sandboxCount'] ?? 0),
        vcpuCount: Number(used?.['vcpuCount'] ?? 0),
        memoryBytes: Number(used?.['memoryBytes'] ?? 0),
        diskBytes: Number(used?.['diskBytes'] ?? 0),
      },
      need,
    );
  }
}

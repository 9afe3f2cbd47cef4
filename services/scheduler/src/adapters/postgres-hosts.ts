import type { Clock } from '@wrenn/kit/clock';
import type { Knex } from 'knex';

import type { Host, HostLoad, HostReport } from '../domain/host.ts';
import type { HostStore } from '../domain/ports.ts';
import { liveStates } from '../domain/sandbox-state.ts';
import type { Database } from './postgres.ts';

interface HostRow {
  readonly id: string;
  readonly address: string;
  readonly bulk_address: string;
  readonly cpu_count: number;
  readonly memory_bytes: string;
  readonly slot_count: number;
  readonly disk_bytes: string;
  readonly vmm: string;
  readonly accelerator: string;
  readonly reported_at: Date;
}

interface LoadRow {
  readonly host_id: string;
  readonly count: string;
  readonly memory_bytes: string;
  readonly vcpu_count: string;
  readonly disk_bytes: string;
}

export class PostgresHosts implements HostStore {
  readonly #database: Database;
  readonly #clock: Clock;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  async report(report: HostReport): Promise<void> {
    const row = {
      id: report.id,
      address: report.address,
      bulk_address: report.bulkAddress,
      cpu_count: report.cpuCount,
      memory_bytes: report.memoryBytes,
      slot_count: report.slotCount,
      disk_bytes: report.diskBytes,
      vmm: report.vmm,
      accelerator: report.accelerator,
      reported_at: this.#clock.now(),
    };
    await this.#database.run(async (db) => db('hosts').insert(row).onConflict('id').merge());
  }

  async find(id: string): Promise<Host | undefined> {
    const row = await this.#database.run(async (db) => db<HostRow>('hosts').where({ id }).first());
    return row && hostOf(row);
  }

  list(): Promise<HostLoad[]> {
    return this.#database.run(async (db) => withLoads(db, await db<HostRow>('hosts').orderBy('id')));
  }

  // Every host, locked until the transaction ends: two creates never both take a host's last place.
  async lockAll(tx: Knex.Transaction): Promise<HostLoad[]> {
    return withLoads(tx, await tx<HostRow>('hosts').orderBy('id').forNoKeyUpdate());
  }
}

async function withLoads(db: Knex, hosts: readonly HostRow[]): Promise<HostLoad[]> {
  // A paused one keeps its disk, and gives all else back.
  const rows: LoadRow[] = await db('sandboxes')
    .select('host_id')
    .select(
      db.raw(`count(*) filter (where state <> 'paused') as count`),
      db.raw(`coalesce(sum(memory_bytes) filter (where state <> 'paused'), 0) as memory_bytes`),
      db.raw(`coalesce(sum(vcpu_count) filter (where state <> 'paused'), 0) as vcpu_count`),
      db.raw('sum(disk_bytes) as disk_bytes'),
    )
    .whereIn('state', liveStates)
    .whereNotNull('host_id')
    .groupBy('host_id');
  const loads = new Map(rows.map((row) => [row.host_id, row]));
  return hosts.map((row) => ({
    ...hostOf(row),
    sandboxCount: Number(loads.get(row.id)?.count ?? 0),
    placedMemoryBytes: Number(loads.get(row.id)?.memory_bytes ?? 0),
    placedVcpuCount: Number(loads.get(row.id)?.vcpu_count ?? 0),
    placedDiskBytes: Number(loads.get(row.id)?.disk_bytes ?? 0),
  }));
}

function hostOf(row: HostRow): Host {
  return {
    id: row.id,
    address: row.address,
    bulkAddress: row.bulk_address,
    cpuCount: row.cpu_count,
    memoryBytes: Number(row.memory_bytes),
    slotCount: row.slot_count,
    diskBytes: Number(row.disk_bytes),
    vmm: row.vmm,
    accelerator: row.accelerator,
    reportedAt: row.reported_at,
  };
}

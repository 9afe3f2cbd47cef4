// Which snapshots there are, and who stands on them. One is forgotten when no row refers to it any more, and
// only then deleted on its host.
import type { Clock } from '@wrenn/kit/clock';
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import type { Knex } from 'knex';

import type { Sandbox } from '../domain/sandbox.ts';
import type { SnapshotStore } from '../domain/snapshot-ports.ts';
import type { Snapshot } from '../domain/snapshot.ts';
import { appendEvents } from './postgres-events.ts';
import type { Database } from './postgres.ts';
import { type SandboxRow, sandboxOf } from './sandbox-row.ts';
import { type SnapshotRow, snapshotColumns, snapshotOf } from './snapshot-rows.ts';

export interface PostgresSnapshotsParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
}

const isNeeded = `(
  exists (select from sandboxes b where b.snapshot_id = snapshots.id)
  or exists (select from sandboxes b where b.previous_snapshot_id = snapshots.id)
  or exists (select from sandboxes b where b.next_snapshot_id = snapshots.id)
  or exists (select from snapshot_names n where n.snapshot_id = snapshots.id))`;
const foreignKeyViolation = '23503';

export class PostgresSnapshots implements SnapshotStore {
  readonly #parts: PostgresSnapshotsParts;

  constructor(parts: PostgresSnapshotsParts) {
    this.#parts = parts;
  }

  async find(id: SnapshotId): Promise<Snapshot | undefined> {
    const row = await this.#parts.database.run(async (db) =>
      db<SnapshotRow>('snapshots').select(snapshotColumns).where({ id }).first(),
    );
    return row && snapshotOf(row as unknown as SnapshotRow);
  }

  async adopt(sandboxId: SandboxId, snapshotId: SnapshotId, isDurable: boolean): Promise<Sandbox | undefined> {
    const [row] = await this.#parts.database.run(async (db) =>
      db<SandboxRow>('sandboxes')
        .where({ id: sandboxId, state: 'running', next_snapshot_id: snapshotId })
        .update(
          {
            snapshot_id: snapshotId,
            next_snapshot_id: null,
            is_durable: isDurable,
            previous_snapshot_id: isDurable
              ? null
              : db.raw('case when is_durable then snapshot_id else previous_snapshot_id end'),
            version: db.raw('version + 1'),
          } as never,
          '*',
        ),
    );
    return row && sandboxOf(row as SandboxRow);
  }

  async abandon(sandboxId: SandboxId, snapshotId: SnapshotId): Promise<void> {
    await this.#parts.database.run(async (db) =>
      db('sandboxes')
        .where({ id: sandboxId, state: 'running', next_snapshot_id: snapshotId })
        .update({ next_snapshot_id: null, version: db.raw('version + 1') }),
    );
  }

  async markDurable(id: SnapshotId, generation: number): Promise<void> {
    const { database, clock, log } = this.#parts;
    const paused = await database.inTransaction(async (tx) => {
      await tx('snapshots').where({ id }).update({ is_durable: true, generation });
      // Nobody sees it of one that is not paused, so that one's version stays: an operation may hold it.
      const rows: { id: SandboxId; state: string }[] = await tx('sandboxes')
        .where({ snapshot_id: id, is_durable: false })
        .update(
          {
            is_durable: true,
            previous_snapshot_id: null,
            version: tx.raw(`case when state = 'paused' then version + 1 else version end`),
          },
          ['id', 'state'],
        );
      const ids = rows.filter(({ state }) => state === 'paused').map((row) => row.id);
      const at = clock.now();
      const events = ids.map(
        (sandboxId) => ({ sandboxId, from: 'paused', to: 'paused', reason: 'SNAPSHOT_DURABLE', at }) as const,
      );
      if (events.length > 0) await appendEvents(tx, events);
      return ids;
    });
    for (const sandbox of paused) log.info({ sandbox, snapshot: id }, 'snapshot is durable');
  }

  undurable(): Promise<Snapshot[]> {
    return this.#select((query) =>
      query.whereRaw(`(
        exists (select from sandboxes b where b.snapshot_id = snapshots.id and not b.is_durable)
        or (not is_durable and exists (select from snapshot_names n where n.snapshot_id = snapshots.id)))`),
    );
  }

  async forgetUnneeded(): Promise<void> {
    const unneeded = await this.#select((query) => query.whereRaw(`not ${isNeeded}`));
    for (const { id } of unneeded) await this.#forget(id);
  }

  async release(sandboxId: SandboxId): Promise<SnapshotId[]> {
    const held = await this.#parts.database.inTransaction(async (tx) => {
      const row = await tx<SandboxRow>('sandboxes').where({ id: sandboxId, state: 'destroying' }).forUpdate().first();
      if (!row) return [];
      const { snapshotId, previousSnapshotId, nextSnapshotId } = sandboxOf(row);
      const none = { snapshot_id: null, previous_snapshot_id: null, next_snapshot_id: null, is_durable: false };
      await tx('sandboxes').where({ id: sandboxId }).update(none);
      return [snapshotId, previousSnapshotId, nextSnapshotId].filter((id) => id !== undefined);
    });
    const free: SnapshotId[] = [];
    for (const id of new Set(held)) if (await this.#forget(id)) free.push(id);
    return free;
  }

  async idsOnHost(hostId: string): Promise<Set<SnapshotId>> {
    const ids = await this.#parts.database.run(async (db) =>
      db<SnapshotRow>('snapshots').where('host_id', hostId).pluck('id'),
    );
    return new Set(ids as SnapshotId[]);
  }

  // False when somebody needs it.
  async #forget(id: SnapshotId): Promise<boolean> {
    try {
      const count = await this.#parts.database.run(async (db) =>
        db('snapshots').where({ id }).whereRaw(`not ${isNeeded}`).delete(),
      );
      return count > 0;
    } catch (error) {
      // Somebody came between the look and the deed.
      if (error instanceof Error && 'code' in error && error.code === foreignKeyViolation) return false;
      throw error;
    }
  }

  async #select(refine: (query: Knex.QueryBuilder) => unknown): Promise<Snapshot[]> {
    const rows = await this.#parts.database.run(async (db) => {
      const query = db('snapshots').select(snapshotColumns).orderBy('created_at') as Knex.QueryBuilder;
      refine(query);
      return query;
    });
    return (rows as SnapshotRow[]).map(snapshotOf);
  }
}

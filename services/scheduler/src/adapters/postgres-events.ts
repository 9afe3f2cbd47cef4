// Events are numbered in commit order: whoever appends holds a lock from before the number is drawn
// until the commit, so a reader that saw number n never finds a smaller one later.
import type { SandboxId } from '@wrenn/kit/ids';
import type { Knex } from 'knex';

import type { EventSource } from '../domain/ports.ts';
import { type SandboxState, isHosted } from '../domain/sandbox-state.ts';
import type { SandboxEvent } from '../domain/sandbox.ts';
import type { Database } from './postgres.ts';

export const eventChannel = 'wrenn_sandbox_events';
export const roomChannel = 'wrenn_room';
const lockKey = 7_236_002;

interface EventRow {
  readonly sequence: string;
  readonly sandbox_id: string;
  readonly from_state: SandboxState | null;
  readonly to_state: SandboxState;
  readonly reason: string;
  readonly at: Date;
}

export type NewEvent = Omit<SandboxEvent, 'sequence'>;

// One statement, since each is waited for by whoever waits for a change of state. The rows come behind the lock, so
// their numbers are drawn under it.
const append = `
  with locked as materialized (select pg_advisory_xact_lock(:lockKey)),
  told as (
    insert into sandbox_events (sandbox_id, from_state, to_state, reason, at)
    select e.sandbox_id, e.from_state, e.to_state, e.reason, e.at
    from locked cross join lateral jsonb_to_recordset(:events::jsonb)
      as e(sandbox_id text, from_state text, to_state text, reason text, at timestamptz)
    returning sandbox_id
  )
  select pg_notify(:eventChannel, sandbox_id) from (select distinct sandbox_id from told) as each_sandbox
  union all
  select pg_notify(:roomChannel, '') where :hasRoom`;

// The last statement of its transaction: everybody else's events wait until it ends.
export async function appendEvents(tx: Knex.Transaction, events: readonly NewEvent[]): Promise<void> {
  const rows = events.map(({ sandboxId, from, to, reason, at }) => ({
    sandbox_id: sandboxId,
    from_state: from ?? null,
    to_state: to,
    reason,
    at,
  }));
  const hasRoom = events.some(({ to }) => !isHosted(to));
  await tx.raw(append, { lockKey, eventChannel, roomChannel, hasRoom, events: JSON.stringify(rows) });
}

export class PostgresEvents implements EventSource {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async read(after: bigint, sandboxId: SandboxId | undefined, limit: number): Promise<SandboxEvent[]> {
    const rows = await this.#database.run(async (db) => {
      const query = db<EventRow>('sandbox_events').where('sequence', '>', String(after));
      if (sandboxId !== undefined) query.andWhere('sandbox_id', sandboxId);
      return query.orderBy('sequence').limit(limit);
    });
    return rows.map((row) => ({
      sequence: BigInt(row.sequence),
      sandboxId: row.sandbox_id,
      from: row.from_state ?? undefined,
      to: row.to_state,
      reason: row.reason,
      at: row.at,
    }));
  }

  async newestSequence(): Promise<bigint> {
    const row = await this.#database.run(async (db) => db('sandbox_events').max({ newest: 'sequence' }).first());
    return BigInt(row?.newest ?? 0);
  }
}

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

// For statements that have a CTE `due` of the events to append; their numbers are drawn under the lock. A statement of its
// own for each step would be waited for by whoever waits for a change of state.
export const appendDue = `
  locked as materialized (
    select pg_advisory_xact_lock(:lockKey) from (select count(*) as n from due) as counted where n > 0
  ),
  told as (
    insert into sandbox_events (sandbox_id, from_state, to_state, reason, at)
    select due.sandbox_id, due.from_state, due.to_state, due.reason, due.at from locked cross join due
    returning sandbox_id
  ),
  rung as materialized (
    select pg_notify(:eventChannel, sandbox_id) from (select distinct sandbox_id from told) as each_sandbox
    union all
    select pg_notify(:roomChannel, '') where :hasRoom
  )`;

// The events that a statement with `appendDue` may append.
export const events = `jsonb_to_recordset(:events::jsonb)
  as events(sandbox_id text, from_state text, to_state text, reason text, at timestamptz)`;

export function eventBindings(all: readonly NewEvent[]) {
  const rows = all.map(({ sandboxId, from, to, reason, at }) => ({
    sandbox_id: sandboxId,
    from_state: from ?? null,
    to_state: to,
    reason,
    at,
  }));
  const hasRoom = all.some(({ to }) => !isHosted(to));
  return { lockKey, eventChannel, roomChannel, hasRoom, events: JSON.stringify(rows) };
}

const append = `with due as (select * from ${events}), ${appendDue} select count(*) from rung`;

// The last statement of its transaction: everybody else's events wait until it ends.
export async function appendEvents(tx: Knex.Transaction, all: readonly NewEvent[]): Promise<void> {
  await tx.raw(append, eventBindings(all));
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

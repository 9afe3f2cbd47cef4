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

// The last statements of their transaction: everybody else's events wait until it ends.
export async function appendEvents(tx: Knex.Transaction, events: readonly NewEvent[]): Promise<void> {
  await tx.raw('select pg_advisory_xact_lock(?)', [lockKey]);
  await tx('sandbox_events').insert(
    events.map(({ sandboxId, from, to, reason, at }) => ({
      sandbox_id: sandboxId,
      from_state: from ?? null,
      to_state: to,
      reason,
      at,
    })),
  );
  for (const sandboxId of new Set(events.map((event) => event.sandboxId))) {
    await tx.raw('select pg_notify(?, ?)', [eventChannel, sandboxId]);
  }
  if (events.some(({ to }) => !isHosted(to))) await tx.raw('select pg_notify(?, ?)', [roomChannel, '']);
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

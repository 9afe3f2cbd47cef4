// The one place where a sandbox's state changes: a compare-and-set on version and state, and its event in the same
// statement. What is over stands on no snapshot.
import type { Knex } from 'knex';

import type { Move } from '../domain/ports.ts';
import { canMove, isLive, liveStates } from '../domain/sandbox-state.ts';
import type { Sandbox } from '../domain/sandbox.ts';
import { appendDue, eventBindings, events } from './postgres-events.ts';
import { type SandboxRow, sandboxOf } from './sandbox-row.ts';

interface SeenMove {
  readonly seen: Sandbox;
  readonly move: Move;
}

// Undefined when the sandbox is not as it was seen any more. In a transaction it must be the last step.
export async function applyMove(db: Knex, seen: Sandbox, move: Move, at: Date): Promise<Sandbox | undefined> {
  const [moved] = await changeStates(db, [{ seen, move }], at);
  return moved;
}

// Several at once, all or none: undefined leaves a transaction that must be rolled back.
export async function applyMoves(
  tx: Knex.Transaction,
  moves: readonly SeenMove[],
  at: Date,
): Promise<Sandbox[] | undefined> {
  const moved = await changeStates(tx, moves, at);
  return moved.length === moves.length ? moved : undefined;
}

// Rows are locked before the events are: whoever holds that lock waits for no row.
async function changeStates(db: Knex, moves: readonly SeenMove[], at: Date): Promise<Sandbox[]> {
  const changes = moves.map(({ seen, move }) => changeOf(db, seen, move, at));
  const names = changes.map((_, i) => `changed_${i}`);
  const statement = `
    with ${names.map((name) => `${name} as (:${name})`).join(', ')},
    moved as (${names.map((name) => `select * from ${name}`).join(' union all ')}),
    forgotten as (
      -- Nobody starts a process in it again, and variables may be secrets.
      delete from sandbox_environments where sandbox_id in (select id from moved where not state = any(:liveStates))
    ),
    due as (select events.* from moved join ${events} on events.sandbox_id = moved.id),
    ${appendDue}
    select moved.* from moved cross join (select count(*) from rung) as told_all`;
  const bindings = {
    ...Object.fromEntries(changes.map((change, i) => [`changed_${i}`, change])),
    ...eventBindings(moves.map(({ seen, move }) => eventOf(seen, move, at))),
    liveStates: [...liveStates],
  };
  const { rows } = await db.raw<{ rows: SandboxRow[] }>(statement, bindings as never);
  return rows.map(sandboxOf);
}

function changeOf(db: Knex, seen: Sandbox, move: Move, at: Date): Knex.QueryBuilder {
  if (!canMove(seen.state, move.to)) throw new Error(`${seen.id} cannot move from ${seen.state} to ${move.to}`);
  return db<SandboxRow>('sandboxes')
    .where({ id: seen.id, version: String(seen.version), state: seen.state })
    .update(
      {
        state: move.to,
        state_changed_at: at,
        version: db.raw('version + 1'),
        error_reason: move.to === 'error' ? move.reason : '',
        // PostgreSQL's text holds no NUL, a host's message might.
        error_message: (move.message ?? '').replaceAll('\0', ''),
        ...(move.guestAddress !== undefined && { guest_address: move.guestAddress }),
        ...(move.expiresAt && { expires_at: move.expiresAt }),
        ...(move.ttlMs !== undefined && { ttl_ms: move.ttlMs }),
        ...standOf(move),
        ...(!isLive(move.to) && { traffic_token: '', access_token: '' }),
      } as never,
      '*',
    );
}

function standOf({ to, snapshot, nextSnapshotId }: Move): Record<string, unknown> {
  if (!isLive(to)) {
    return { snapshot_id: null, previous_snapshot_id: null, next_snapshot_id: null, is_durable: false };
  }
  return {
    ...(nextSnapshotId !== undefined && { next_snapshot_id: nextSnapshotId }),
    ...(snapshot && {
      snapshot_id: snapshot.id,
      is_durable: snapshot.isDurable,
      previous_snapshot_id: snapshot.previousId ?? null,
    }),
  };
}

function eventOf(seen: Sandbox, { to, reason }: Move, at: Date) {
  return { sandboxId: seen.id, from: seen.state, to, reason, at };
}

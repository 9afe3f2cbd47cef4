// The one place where a sandbox's state changes: a compare-and-set on version and state, and its event in
// the same transaction. What is over stands on no snapshot.
import type { Knex } from 'knex';

import type { Move } from '../domain/ports.ts';
import { canMove, isLive } from '../domain/sandbox-state.ts';
import type { Sandbox } from '../domain/sandbox.ts';
import { appendEvents } from './postgres-events.ts';
import { type SandboxRow, sandboxOf } from './sandbox-row.ts';

// Undefined when the sandbox is not as it was seen any more. Must be its transaction's last step.
export async function applyMove(
  tx: Knex.Transaction,
  seen: Sandbox,
  move: Move,
  at: Date,
): Promise<Sandbox | undefined> {
  const moved = await changeState(tx, seen, move, at);
  if (moved) await appendEvents(tx, [eventOf(seen, move, at)]);
  return moved;
}

// Several at once, all or none: undefined leaves a transaction that must be rolled back.
export async function applyMoves(
  tx: Knex.Transaction,
  moves: readonly { readonly seen: Sandbox; readonly move: Move }[],
  at: Date,
): Promise<Sandbox[] | undefined> {
  const moved: Sandbox[] = [];
  for (const { seen, move } of moves) {
    const each = await changeState(tx, seen, move, at);
    if (!each) return undefined;
    moved.push(each);
  }
  await appendEvents(
    tx,
    moves.map(({ seen, move }) => eventOf(seen, move, at)),
  );
  return moved;
}

async function changeState(tx: Knex.Transaction, seen: Sandbox, move: Move, at: Date): Promise<Sandbox | undefined> {
  if (!canMove(seen.state, move.to)) throw new Error(`${seen.id} cannot move from ${seen.state} to ${move.to}`);
  const [row] = await tx<SandboxRow>('sandboxes')
    .where({ id: seen.id, version: String(seen.version), state: seen.state })
    .update(
      {
        state: move.to,
        state_changed_at: at,
        version: tx.raw('version + 1'),
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
  // Nobody starts a process in it again, and variables may be secrets.
  if (row && !isLive(move.to)) await tx('sandbox_environments').where({ sandbox_id: seen.id }).delete();
  return row && sandboxOf(row as SandboxRow);
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

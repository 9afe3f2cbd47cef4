// The transactions of pausing, resuming and forking. Admission happens in the one that changes the state.
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';
import { WrennError } from '@wrenn/kit/errors';

import type { Sandbox } from '../domain/sandbox.ts';
import type { LifecycleStore, NewFork, PlacedFork, RunningChild } from '../domain/snapshot-ports.ts';
import type { Settings } from '../domain/snapshot.ts';
import { claimKey, recordKey } from './create-requests.ts';
import type { PostgresSandboxesParts } from './postgres-sandboxes.ts';
import { appendPlaced, insertSandboxes } from './sandbox-inserts.ts';
import { applyMove, applyMoves } from './sandbox-moves.ts';
import { type SandboxRow, sandboxOf } from './sandbox-row.ts';
import { insertSnapshot } from './snapshot-rows.ts';
import { tellMove } from './told-moves.ts';

const rolledBack = Symbol('rolled back');

export class PostgresLifecycle implements LifecycleStore {
  readonly #parts: PostgresSandboxesParts;

  constructor(parts: PostgresSandboxesParts) {
    this.#parts = parts;
  }

  async beginPause(seen: Sandbox, snapshotId: SnapshotId, reason: string): Promise<Sandbox | undefined> {
    const { database, causes, clock, log } = this.#parts;
    const pausing = await database.inTransaction(async (tx) => {
      const now = clock.now();
      if (seen.nextSnapshotId !== snapshotId) await insertSnapshot(tx, snapshotId, seen, false, now);
      return applyMove(tx, seen, { to: 'pausing', reason, nextSnapshotId: snapshotId }, now);
    });
    // Recorded for nothing then: whoever looks for snapshots that nobody needs takes it away.
    if (!pausing) return undefined;
    tellMove(causes, seen.id, { to: 'pausing', reason });
    log.info({ sandbox: seen.id, snapshot: snapshotId, reason }, 'pausing');
    return pausing;
  }

  async admitResume(seen: Sandbox, reason: string) {
    const { database, hosts, quotas, placement, causes, clock, log } = this.#parts;
    const { vcpuCount, memoryBytes } = seen;
    // The sandbox and its disk are counted while it is paused, too.
    const need = { vcpuCount, memoryBytes, diskBytes: 0 };
    const admitted = await database.inTurn(async (tx) => {
      await quotas.requireRoom(tx, seen.project, { ...need, sandboxCount: 0 });
      const loads = await hosts.lockAll(tx);
      const now = clock.now();
      const host = placement(
        loads.filter(({ id }) => id === seen.hostId),
        need,
        now,
      );
      const sandbox = await applyMove(tx, seen, { to: 'resuming', reason }, now);
      return sandbox && { sandbox, host };
    });
    if (!admitted) return undefined;
    tellMove(causes, seen.id, { to: 'resuming', reason });
    log.info({ sandbox: seen.id, snapshot: seen.snapshotId, reason }, 'resuming');
    return admitted;
  }

  async placeFork(fork: NewFork): Promise<PlacedFork | undefined> {
    const { database, hosts, quotas, placement, clock, log } = this.#parts;
    const { source, snapshotId, childIds, spec, settings, key } = fork;
    const count = childIds.length;
    const need = {
      sandboxCount: count,
      vcpuCount: source.vcpuCount * count,
      memoryBytes: source.memoryBytes * count,
      diskBytes: source.diskBytes * count,
    };
    const placed = await database.inTurn(async (tx): Promise<PlacedFork | undefined> => {
      const known = key && (await claimKey(tx, key, clock.now()));
      if (known) return { kind: 'known', first: known };
      await quotas.requireRoom(tx, source.project, need);
      const loads = await hosts.lockAll(tx);
      const now = clock.now();
      const host = placement(
        loads.filter(({ id }) => id === source.hostId),
        need,
        now,
      );
      // Locked, so that what the children stand on is still there when they are recorded.
      const isNew = source.state === 'running';
      const stands = isNew ? { next_snapshot_id: null } : { snapshot_id: snapshotId };
      const row = await tx<SandboxRow>('sandboxes')
        .where({ id: source.id, state: source.state, ...stands } as never)
        .forUpdate()
        .first();
      if (!row) return undefined;
      if (isNew) {
        await insertSnapshot(tx, snapshotId, source, true, now);
        const next = { next_snapshot_id: snapshotId, version: tx.raw('version + 1') };
        await tx('sandboxes').where({ id: source.id }).update(next);
      }
      const children = await insertSandboxes(
        tx,
        childIds.map((id, index) => ({
          ...source,
          id,
          hostId: host.id,
          ttlMs: spec.ttlMs ?? source.ttlMs,
          metadata: spec.metadata,
          settings,
          snapshot: { id: snapshotId, isDurable: !isNew && row.is_durable },
          fork: { id: childIds[0] as SandboxId, index },
        })),
        now,
      );
      if (key) await recordKey(tx, key, children[0] as Sandbox);
      await appendPlaced(tx, childIds, now);
      return { kind: 'placed', children, host };
    });
    if (placed?.kind === 'placed') log.info({ sandbox: source.id, children: count }, 'fork placed');
    return placed;
  }

  async forkOf(first: SandboxId): Promise<Sandbox[]> {
    const rows = await this.#parts.database.run(async (db) =>
      db<SandboxRow>('sandboxes').where('fork_id', first).orderBy('fork_index'),
    );
    return rows.map((row) => sandboxOf(row as SandboxRow));
  }

  async runAll(children: readonly RunningChild[], expiresAt: Date): Promise<Sandbox[] | undefined> {
    const { database, causes, clock, log } = this.#parts;
    const moves = children.map(({ seen, guestAddress }) => ({
      seen,
      move: { to: 'running', reason: 'AGENT_READY', guestAddress, expiresAt } as const,
    }));
    try {
      const running = await database.inTransaction(async (tx) => {
        const moved = await applyMoves(tx, moves, clock.now());
        if (!moved) throw rolledBack;
        return moved;
      });
      for (const { id } of running) {
        tellMove(causes, id, { to: 'running', reason: 'AGENT_READY' });
        log.info({ sandbox: id, from: 'starting', to: 'running' }, 'state changed');
      }
      return running;
    } catch (error) {
      if (error === rolledBack) return undefined;
      throw error;
    }
  }

  async frail(): Promise<Sandbox[]> {
    const rows = await this.#parts.database.run(async (db) =>
      db<SandboxRow>('sandboxes').where({ state: 'paused', is_durable: false }),
    );
    return rows.map((row) => sandboxOf(row as SandboxRow));
  }

  async settings(id: SandboxId): Promise<Settings> {
    const row = await this.#parts.database.run(async (db) =>
      db('sandboxes as s')
        .join('templates as t', 't.name', 's.template')
        .leftJoin('sandbox_environments as e', 'e.sandbox_id', 's.id')
        .where('s.id', id)
        .select('e.env', db.raw('coalesce(e.default_user, t.default_user) as default_user'))
        .first(),
    );
    if (!row) throw new WrennError('SANDBOX_NOT_FOUND', `no sandbox ${id}`, { meta: { sandbox: id } });
    return { env: (row.env as Record<string, string> | null) ?? {}, defaultUser: String(row.default_user) };
  }
}

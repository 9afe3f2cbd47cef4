// Every change is a compare-and-set on version and state, and commits together with its event.
import type { Clock } from '@wrenn/kit/clock';
import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import type { Causes } from '@wrenn/kit/telemetry/causes';
import type { Knex } from 'knex';

import type { PortAccess } from '../domain/access.ts';
import type { CreateKey } from '../domain/create-key.ts';
import type { CreateSpec } from '../domain/create-request.ts';
import type { Placement } from '../domain/placement.ts';
import type { ListQuery, Move, Placed, SandboxStore } from '../domain/ports.ts';
import { type SandboxState, endedStates, liveStates } from '../domain/sandbox-state.ts';
import type { Sandbox } from '../domain/sandbox.ts';
import { claimKey, findByKey, forgetKeys, recordKey } from './create-requests.ts';
import { appendEvents } from './postgres-events.ts';
import type { PostgresHosts } from './postgres-hosts.ts';
import type { PostgresQuotas } from './postgres-quotas.ts';
import type { Database } from './postgres.ts';
import { appendPlaced, insertSandboxes } from './sandbox-inserts.ts';
import { applyMove } from './sandbox-moves.ts';
import { type SandboxRow, sandboxOf } from './sandbox-row.ts';
import { hostsFor } from './snapshot-rows.ts';
import { tellMove } from './told-moves.ts';

export interface PostgresSandboxesParts {
  readonly database: Database;
  readonly hosts: PostgresHosts;
  readonly quotas: PostgresQuotas;
  readonly placement: Placement;
  readonly causes: Causes;
  readonly clock: Clock;
  readonly log: Log;
}

const keptMs = 86_400_000;
const maxSlackMs = 5000;

export class PostgresSandboxes implements SandboxStore {
  readonly #parts: PostgresSandboxesParts;

  constructor(parts: PostgresSandboxesParts) {
    this.#parts = parts;
  }

  async place(id: SandboxId, spec: CreateSpec, key: CreateKey | undefined): Promise<Placed> {
    const { database, hosts, quotas, placement, causes, clock, log } = this.#parts;
    const placed = await database.inTurn(async (tx): Promise<Placed> => {
      const known = key && (await claimKey(tx, key, clock.now()));
      if (known) return { kind: 'known', sandbox: known };
      await quotas.requireRoom(tx, spec.project, { ...spec, sandboxCount: 1 });
      const loads = await hostsFor(tx, spec.snapshot, await hosts.lockAll(tx));
      const now = clock.now();
      const host = placement(loads, spec, now);
      const settings = { env: spec.env, defaultUser: spec.template.defaultUser };
      const wanted = { ...spec, id, template: spec.template.name, hostId: host.id, settings, snapshot: spec.snapshot };
      const [sandbox] = (await insertSandboxes(tx, [wanted], now)) as [Sandbox];
      if (key) await recordKey(tx, key, sandbox);
      await appendPlaced(tx, [id], now);
      return { kind: 'placed', sandbox, host };
    });
    if (placed.kind === 'placed') {
      tellMove(causes, id, { to: 'starting', reason: 'PLACED' });
      log.info({ sandbox: id, host: placed.host.id, template: spec.template.name }, 'sandbox placed');
    }
    return placed;
  }

  async find(id: SandboxId): Promise<Sandbox | undefined> {
    const row = await this.#parts.database.run(async (db) => db<SandboxRow>('sandboxes').where({ id }).first());
    return row && sandboxOf(row);
  }

  findByKey(key: CreateKey): Promise<Sandbox | undefined> {
    const { database, clock } = this.#parts;
    return database.run((db) => findByKey(db, key, clock.now()));
  }

  findAll(ids: readonly string[]): Promise<Sandbox[]> {
    return this.#select((query) => query.whereIn('id', ids));
  }

  inStates(states: readonly SandboxState[]): Promise<Sandbox[]> {
    return this.#select((query) => query.whereIn('state', states));
  }

  async countByState(): Promise<ReadonlyMap<SandboxState, number>> {
    const rows = await this.#parts.database.run<{ state: SandboxState; count: string }[]>((db) =>
      db<SandboxRow>('sandboxes').select('state').count({ count: '*' }).groupBy('state'),
    );
    return new Map(rows.map(({ state, count }) => [state, Number(count)]));
  }

  expired(limit: number, except: readonly SandboxId[] = []): Promise<Sandbox[]> {
    const now = this.#parts.clock.now();
    return this.#select((query) =>
      query
        .where('state', 'running')
        .andWhere('expires_at', '<=', now)
        .whereNotIn('id', [...except])
        .orderBy('expires_at')
        .limit(limit),
    );
  }

  list({ states, behind, limit }: ListQuery): Promise<Sandbox[]> {
    return this.#select((query) => {
      query.whereIn('state', states).orderBy([
        { column: 'created_at', order: 'desc' },
        { column: 'id', order: 'desc' },
      ]);
      if (behind) query.andWhereRaw('(created_at, id) < (?, ?)', [behind.createdAt, behind.id]);
      return query.limit(limit);
    });
  }

  async move(seen: Sandbox, move: Move): Promise<Sandbox | undefined> {
    const { database, causes, clock, log } = this.#parts;
    const moved = await database.run((db) => applyMove(db, seen, move, clock.now()));
    if (!moved) return undefined;
    tellMove(causes, seen.id, move);
    log.info({ sandbox: seen.id, from: seen.state, to: move.to, reason: move.reason }, 'state changed');
    return moved;
  }

  async extend(id: SandboxId, ttlMs: number | undefined): Promise<Sandbox | undefined> {
    const now = this.#parts.clock.now();
    const [row] = await this.#parts.database.run(async (db) => {
      const end =
        ttlMs === undefined
          ? db.raw(`greatest(expires_at, ?::timestamptz + ttl_ms * interval '1 millisecond')`, [now])
          : new Date(now.getTime() + ttlMs);
      return db<SandboxRow>('sandboxes')
        .where({ id, state: 'running' })
        .update(
          {
            expires_at: end,
            version: db.raw('version + 1'),
            ...(ttlMs !== undefined && { ttl_ms: ttlMs }),
          } as never,
          '*',
        );
    });
    return row && sandboxOf(row as SandboxRow);
  }

  async setAccess(id: SandboxId, { isSecure, publicPorts }: PortAccess): Promise<Sandbox | undefined> {
    const { database, clock, log } = this.#parts;
    const set = await database.inTransaction(async (tx) => {
      const [row] = (await tx<SandboxRow>('sandboxes')
        .where({ id })
        .whereIn('state', liveStates)
        .update(
          {
            secure: isSecure,
            public_ports: publicPorts,
            // Where an operation may hold the version it stays.
            version: tx.raw(`case when state in ('running', 'paused') then version + 1 else version end`),
          } as never,
          '*',
        )) as SandboxRow[];
      if (!row) return undefined;
      const { state } = row;
      await appendEvents(tx, [{ sandboxId: id, from: state, to: state, reason: 'ACCESS_SET', at: clock.now() }]);
      return sandboxOf(row);
    });
    if (set) log.info({ sandbox: id, isSecure, publicPorts }, 'access set');
    return set;
  }

  // Goes a little further than it must, so that a busy sandbox is not written again by every report; the
  // rows are locked in order, so that reports never deadlock.
  async keepUsed(ids: readonly SandboxId[]): Promise<void> {
    const now = this.#parts.clock.now();
    await this.#parts.database.run(async (db) =>
      db.raw(
        `update sandboxes set
           expires_at = ?::timestamptz + (ttl_ms + least(ttl_ms / 4, ?)) * interval '1 millisecond',
           version = version + 1
         where id in (
           select id from sandboxes
           where id = any(?) and state = 'running'
             and expires_at < ?::timestamptz + ttl_ms * interval '1 millisecond'
           order by id for no key update)`,
        [now, maxSlackMs, [...ids], now],
      ),
    );
  }

  // Records of what is over, and events, are kept for a day.
  async forget(): Promise<void> {
    const now = this.#parts.clock.now();
    const before = new Date(now.getTime() - keptMs);
    await this.#parts.database.run(async (db) => {
      await forgetKeys(db, now);
      await db('sandboxes').whereIn('state', endedStates).andWhere('state_changed_at', '<', before).delete();
      await db('sandbox_events').where('at', '<', before).delete();
    });
  }

  async #select(refine: (query: Knex.QueryBuilder<SandboxRow, SandboxRow[]>) => unknown): Promise<Sandbox[]> {
    const rows = await this.#parts.database.run(async (db) => {
      const query = db<SandboxRow>('sandboxes').select('*') as Knex.QueryBuilder<SandboxRow, SandboxRow[]>;
      refine(query);
      return query;
    });
    return rows.map(sandboxOf);
  }
}

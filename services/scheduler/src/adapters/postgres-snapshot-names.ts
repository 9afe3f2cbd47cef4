// Names of snapshots, in one namespace with templates: whoever takes a name holds a lock on it meanwhile.
import { WrennError } from '@wrenn/kit/errors';
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';
import type { Knex } from 'knex';

import { keyKeptMs } from '../domain/create-key.ts';
import type { Sandbox } from '../domain/sandbox.ts';
import type { NameTerms, SnapshotNames } from '../domain/snapshot-ports.ts';
import type { NamedSnapshot, Settings } from '../domain/snapshot.ts';
import type { PostgresSnapshotsParts } from './postgres-snapshots.ts';
import type { SandboxRow } from './sandbox-row.ts';
import { type NamedRow, insertSnapshot, namedOf, snapshotColumns } from './snapshot-rows.ts';

// Any number that no other two-part lock of the database takes.
const lockKey = 7_236_004;

export async function lockName(tx: Knex.Transaction, name: string): Promise<void> {
  await tx.raw('select pg_advisory_xact_lock(?, hashtext(?))', [lockKey, name]);
}

export class PostgresSnapshotNames implements SnapshotNames {
  readonly #parts: PostgresSnapshotsParts;

  constructor(parts: PostgresSnapshotsParts) {
    this.#parts = parts;
  }

  nameOwn(seen: Sandbox, terms: NameTerms): Promise<SnapshotId | undefined> {
    const { snapshotId } = seen;
    if (snapshotId === undefined) throw new Error(`${seen.id} is paused and stands on no snapshot`);
    return this.#parts.database.inTransaction(async (tx) => {
      await requireFree(tx, terms.name);
      const row = await tx<SandboxRow>('sandboxes')
        .where({ id: seen.id, state: 'paused', snapshot_id: snapshotId })
        .forUpdate()
        .first();
      if (!row) return undefined;
      await this.#insert(tx, seen, snapshotId, terms);
      return snapshotId;
    });
  }

  nameNext(seen: Sandbox, snapshotId: SnapshotId, terms: NameTerms): Promise<SnapshotId | undefined> {
    return this.#parts.database.inTransaction(async (tx) => {
      await requireFree(tx, terms.name);
      const isSeen = { id: seen.id, state: 'running', next_snapshot_id: null } as const;
      if (!(await tx<SandboxRow>('sandboxes').where(isSeen).forUpdate().first())) return undefined;
      await insertSnapshot(tx, snapshotId, seen, true, this.#parts.clock.now());
      await tx('sandboxes')
        .where({ id: seen.id })
        .update({ next_snapshot_id: snapshotId, version: tx.raw('version + 1') });
      await this.#insert(tx, seen, snapshotId, terms);
      return snapshotId;
    });
  }

  async unname(name: string, snapshotId: SnapshotId, terms: { readonly unlessDurable: boolean }): Promise<void> {
    await this.#parts.database.run(async (db) => {
      const query = db('snapshot_names').where({ name, snapshot_id: snapshotId });
      const isDurable = `exists (select from snapshots s where s.id = snapshot_names.snapshot_id and s.is_durable)`;
      if (terms.unlessDurable) query.whereRaw(`not ${isDurable}`);
      return query.delete();
    });
  }

  unfinished(): Promise<NamedSnapshot[]> {
    return this.#select((query) => query.where('snapshots.is_durable', false));
  }

  async findByRequest(project: string, requestId: string): Promise<NamedSnapshot | undefined> {
    const since = new Date(this.#parts.clock.now().getTime() - keyKeptMs);
    const [found] = await this.#select((query) =>
      query.where({ 'n.project': project, 'n.request_id': requestId }).where('n.created_at', '>', since),
    );
    return found;
  }

  async find(name: string): Promise<NamedSnapshot | undefined> {
    const [found] = await this.#select((query) => query.where({ 'n.name': name, 'snapshots.is_durable': true }));
    return found;
  }

  list(): Promise<NamedSnapshot[]> {
    return this.#select((query) => query.where('snapshots.is_durable', true));
  }

  async delete(name: string): Promise<void> {
    await this.#parts.database.inTransaction(async (tx) => {
      const notFound = new WrennError('SNAPSHOT_NOT_FOUND', `no snapshot ${name}`, { meta: { snapshot: name } });
      const held = await tx<{ name: string; snapshot_id: string }>('snapshot_names')
        .where({ name })
        .forUpdate()
        .first();
      if (!held) throw notFound;
      if (!(await tx('snapshots').where({ id: held.snapshot_id, is_durable: true }).first())) throw notFound;
      const user = await tx<SandboxRow>('sandboxes')
        .where({ snapshot_id: held.snapshot_id })
        .whereIn('state', ['pending', 'starting'])
        .first();
      if (user) {
        const message = `${user.id} is being made from ${name} right now`;
        throw new WrennError('SNAPSHOT_IN_USE', message, { meta: { snapshot: name, sandbox: user.id } });
      }
      await tx('snapshot_names').where({ name }).delete();
    });
    this.#parts.log.info({ snapshot: name }, 'snapshot deleted');
  }

  async settings(id: SnapshotId): Promise<Settings> {
    const row = await this.#parts.database.run(async (db) =>
      db('snapshots').where({ id }).select('env', 'default_user').first(),
    );
    if (!row) throw new WrennError('SNAPSHOT_NOT_FOUND', `no snapshot ${id}`, { meta: { snapshot: id } });
    return { env: row.env as Record<string, string>, defaultUser: String(row.default_user) };
  }

  async #insert(tx: Knex.Transaction, { id, project }: Sandbox, snapshotId: SnapshotId, terms: NameTerms) {
    await tx('snapshot_names').insert({
      name: terms.name,
      snapshot_id: snapshotId,
      sandbox_id: id satisfies SandboxId,
      project,
      request_id: terms.requestId ?? null,
      created_at: this.#parts.clock.now(),
    });
  }

  async #select(refine: (query: Knex.QueryBuilder) => unknown): Promise<NamedSnapshot[]> {
    const rows = await this.#parts.database.run(async (db) => {
      const query = db('snapshot_names as n')
        .join('snapshots', 'snapshots.id', 'n.snapshot_id')
        .select(snapshotColumns)
        .select({ name: 'n.name', request_id: 'n.request_id', named_of: 'n.sandbox_id', named_at: 'n.created_at' })
        .orderBy('n.name') as Knex.QueryBuilder;
      refine(query);
      return query;
    });
    return (rows as NamedRow[]).map(namedOf);
  }
}

async function requireFree(tx: Knex.Transaction, name: string): Promise<void> {
  await lockName(tx, name);
  for (const [table, what] of [
    ['templates', 'template'],
    ['snapshot_names', 'snapshot'],
  ] as const) {
    if (!(await tx(table).where({ name }).first())) continue;
    throw new WrennError('SNAPSHOT_EXISTS', `there is a ${what} ${name} already`, { meta: { [what]: name } });
  }
}

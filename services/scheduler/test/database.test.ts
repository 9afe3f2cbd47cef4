import { openLog } from '@wrenn/kit/log';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { migrate, migrations } from '../src/adapters/migrations.ts';
import { openKnex } from '../src/adapters/postgres.ts';
import { type OwnDatabaseServer, execute, ownDatabaseServers } from './support/database-servers.ts';
import { type TestMesh, reasonOf, soon, startTestMesh } from './support/test-mesh.ts';

const log = openLog('test', 'silent');

async function refusedWithinASecond(call: Promise<unknown>): Promise<void> {
  const startMs = performance.now();
  expect(await reasonOf(call)).toBe('DATABASE_UNAVAILABLE');
  expect(performance.now() - startMs).toBeLessThan(1100);
}

async function untilItWorks(mesh: TestMesh) {
  return eventually('a create works again', () => mesh.create());
}

describe.each(ownDatabaseServers)('on $name', ({ startServer }) => {
  let database: OwnDatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('migrates an empty database once, whoever comes first of many', async () => {
    const url = await database.newDatabase();
    await Promise.all(Array.from({ length: 4 }, () => migrate(url, log)));
    await migrate(url, log);
    const names = await execute(url, 'select name from schema_migrations order by id');
    expect(names.flat()).toEqual(migrations.map(({ name }) => name));
  });

  test('refuses a database that a newer version has migrated, and changes nothing in it', async () => {
    const url = await database.newDatabase();
    await migrate(url, log);
    await execute(url, `insert into schema_migrations (name, batch, migration_time) values ('9999-new', 9, now())`);
    await expect(migrate(url, log)).rejects.toThrow(/newer Wrenn \(9999-new\)/);
  });

  test('leaves no trace of a migration that fails half-way', async () => {
    const url = await database.newDatabase();
    const broken = {
      name: '0002-broken',
      up: async (db: { raw(sql: string): PromiseLike<unknown> }) => {
        await db.raw('create table half (id int)');
        await db.raw('create nonsense');
      },
      down: async () => {},
    };
    await expect(migrate(url, log, [...migrations.slice(0, 1), broken])).rejects.toThrow(/nonsense/);
    const tables = await execute(url, `select tablename from pg_tables where schemaname = 'public'`);
    expect(tables).toEqual([]);
    await migrate(url, log);
  });

  test('can take every migration back', async () => {
    const url = await database.newDatabase();
    await migrate(url, log);
    const db = openKnex({ url, log, statementLimitMs: 10_000, maxConnections: 1 });
    for (const { down } of migrations.toReversed()) await down?.(db);
    await db.destroy();
    const tables = await execute(url, `select tablename from pg_tables where tablename !~ '^(pg|sql|schema)_'`);
    expect(tables).toEqual([]);
  });

  test.each([
    ['a state that does not exist', `set state = 'sleeping'`],
    ['an error without a reason', `set state = 'error'`],
    ['a reason without an error', `set error_reason = 'X'`],
    ['a running sandbox without a host', `set host_id = null`],
    ['a running sandbox without an address', `set guest_address = ''`],
    ['a host that never reported', `set host_id = 'nobody'`],
    ['a version before the first', 'set version = 0'],
    ['memory that is no multiple of 2 MiB', 'set memory_bytes = memory_bytes + 1'],
  ])('keeps out, in the schema itself, %s', async (_what, change) => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    await mesh.create();
    await expect(execute(mesh.databaseUrl, `update sandboxes ${change}`)).rejects.toThrow(/violates/);
  });

  test('answers within a second while the database is dead, and works again without a restart', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create();
    await database.kill();
    await refusedWithinASecond(mesh.sandboxes.get({ sandboxId: id }, soon()));
    await refusedWithinASecond(mesh.create());
    await refusedWithinASecond(mesh.sandboxes.list({}, soon()));
    await refusedWithinASecond(mesh.sandboxes.destroy({ sandboxId: id }, soon()));
    await database.start();
    await untilItWorks(mesh);
    expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
  });

  test('answers within a second while the database stands still, and works again when it goes on', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    await database.freeze();
    // More calls than connections: those that wait for one are refused in time too.
    const calls = Array.from({ length: 40 }, () => mesh.sandboxes.get({ sandboxId: id }, soon()));
    await Promise.all(calls.map(refusedWithinASecond));
    await refusedWithinASecond(mesh.sandboxes.ping({ sandboxId: id }, soon()));
    await refusedWithinASecond(mesh.create());
    await database.thaw();
    await untilItWorks(mesh);
    expect(host.destroyed).not.toContain(id);
  });

  test('undoes a create on its host when the database is gone by the time it is ready', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const gate = Promise.withResolvers<void>();
    host.whileCreating = () => gate.promise;
    const created = reasonOf(mesh.create());
    const { sandboxId } = await eventually('the host is making it', () => host.created[0]);
    await database.kill();
    gate.resolve();
    expect(await created).toBe('DATABASE_UNAVAILABLE');
    expect(host.destroyed).toEqual([sandboxId]);
    expect(host.vms.size).toBe(0);
    await database.start();
    host.whileCreating = async () => {};
    await untilItWorks(mesh);
  });

  test('shows a watcher what happened before, during and after an outage, once', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const seen: bigint[] = [];
    const abort = new AbortController();
    const watching = (async () => {
      for await (const { event } of mesh.sandboxes.watchEvents({}, { signal: abort.signal })) {
        seen.push(event?.sequence ?? 0n);
      }
    })().catch((error: unknown) => error);
    const before = await mesh.create();
    await eventually('the first were seen', () => seen.length === 3);
    await database.kill();
    await refusedWithinASecond(mesh.sandboxes.destroy({ sandboxId: before.id }, soon()));
    await database.start();
    await untilItWorks(mesh);
    const rows = await execute(mesh.databaseUrl, 'select sequence from sandbox_events order by sequence');
    await eventually('all were seen', () => seen.length === rows.length);
    expect(seen).toEqual(rows.flat().map((sequence) => BigInt(String(sequence))));
    abort.abort();
    await watching;
  });
});

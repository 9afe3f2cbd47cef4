import { openLog } from '@wrenn/kit/log';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { migrate, migrations } from '../src/adapters/migrations.ts';
import { openKnex } from '../src/adapters/postgres.ts';
import { type OwnDatabaseServer, execute, ownDatabaseServers } from './support/database-servers.ts';
import { startTestMesh } from './support/test-mesh.ts';

const log = openLog('test', 'silent');

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

  test('keeps nonsense out in the schema itself', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    await mesh.create();
    const changes = {
      'a state that does not exist': `set state = 'sleeping'`,
      'an error without a reason': `set state = 'error'`,
      'a reason without an error': `set error_reason = 'X'`,
      'a running sandbox without a host': `set host_id = null`,
      'a running sandbox without an address': `set guest_address = ''`,
      'a host that never reported': `set host_id = 'nobody'`,
      'a version before the first': 'set version = 0',
      'a live sandbox without a token': `set traffic_token = ''`,
      'memory that is no multiple of 2 MiB': 'set memory_bytes = memory_bytes + 1',
    };
    for (const [what, change] of Object.entries(changes)) {
      await expect(execute(mesh.databaseUrl, `update sandboxes ${change}`), what).rejects.toThrow(/violates/);
    }
  });
});

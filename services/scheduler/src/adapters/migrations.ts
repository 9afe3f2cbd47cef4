// Brings the schema up to date in one transaction: all of it or nothing, one scheduler at a time, and
// never a database that a newer Wrenn has already changed.
import type { Log } from '@wrenn/kit/log';
import type { Knex } from 'knex';

import * as hostsAndTemplates from './migrations/0001-hosts-and-templates.ts';
import * as sandboxes from './migrations/0002-sandboxes.ts';
import * as sandboxEvents from './migrations/0003-sandbox-events.ts';
import * as admission from './migrations/0004-admission.ts';
import * as snapshots from './migrations/0005-snapshots.ts';
import * as access from './migrations/0006-access.ts';
import { openKnex, toWrennError } from './postgres.ts';

interface Migration extends Knex.Migration {
  readonly name: string;
}

export const migrations: readonly Migration[] = [
  { name: '0001-hosts-and-templates', ...hostsAndTemplates },
  { name: '0002-sandboxes', ...sandboxes },
  { name: '0003-sandbox-events', ...sandboxEvents },
  { name: '0004-admission', ...admission },
  { name: '0005-snapshots', ...snapshots },
  { name: '0006-access', ...access },
];

const table = 'schema_migrations';
// Any number that no other user of the database takes.
const lockKey = 7_236_001;
const statementLimitMs = 60_000;

export async function migrate(url: string, log: Log, known = migrations): Promise<void> {
  const db = openKnex({ url, log, statementLimitMs, maxConnections: 1 });
  try {
    await db.transaction(async (tx) => {
      await tx.raw('select pg_advisory_xact_lock(?)', [lockKey]);
      await refuseNewer(tx, known);
      const [, names] = (await tx.migrate.latest({
        tableName: table,
        migrationSource: {
          getMigrations: async () => [...known],
          getMigrationName: ({ name }: Migration) => name,
          getMigration: async (migration: Migration) => migration,
        },
      })) as [number, string[]];
      if (names.length > 0) log.info({ migrations: names }, 'database migrated');
    });
  } catch (error) {
    throw toWrennError(error);
  } finally {
    await db.destroy();
  }
}

async function refuseNewer(tx: Knex.Transaction, known: readonly Migration[]): Promise<void> {
  if (!(await tx.schema.hasTable(table))) return;
  const done = await tx<{ name: string }>(table).pluck('name');
  const unknown = done.filter((name) => !known.some((migration) => migration.name === name));
  if (unknown.length > 0) {
    throw new Error(`the database was changed by a newer Wrenn (${unknown.join(', ')}); run that one, or a copy`);
  }
}

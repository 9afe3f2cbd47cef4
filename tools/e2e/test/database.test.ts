// The whole spine on a PostgreSQL that is not ours: Debian's, started apart, named by DATABASE_URL.
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { startEmbeddedPostgres } from '@wrenn/cli/embedded-postgres';
import { openLog } from '@wrenn/kit/log';
import { glob } from 'node:fs/promises';
import { expect, test } from 'vitest';

import { TestMesh } from '../src/mesh.ts';
import { ownPlace } from '../src/place.ts';

test('a mesh runs on the database that DATABASE_URL names, and starts none of its own', async () => {
  const [programsDir] = await Array.fromAsync(glob('/usr/lib/postgresql/*/bin'));
  expect(programsDir, 'Debian’s postgresql package must be installed').toBeDefined();
  const dir = await mkdtemp(join(tmpdir(), 'wrenn-e2e-db-'));
  await chmod(dir, 0o711);
  const log = openLog('database', 'warn');
  const database = await startEmbeddedPostgres({ dataDir: join(dir, 'db'), log, programsDir: programsDir ?? '' });
  try {
    await using mesh = await TestMesh.start({ place: ownPlace(), templates: ['minimal'], databaseUrl: database.url });
    const guest = await mesh.create();
    expect(await guest.sh('echo hello')).toBe('hello');
    await guest.destroy();
    expect(await mesh.close()).toEqual([]);
  } finally {
    await database.close();
    await rm(dir, { recursive: true, force: true });
  }
});

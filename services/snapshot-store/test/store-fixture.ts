import { chmod, mkdir, open, readdir } from 'node:fs/promises';
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

import { Qcow2Overlay } from '../src/adapters/qcow2-overlay.ts';
import { StoreDirectory } from '../src/adapters/store-directory.ts';
import { StoredDisks } from '../src/adapters/stored-disks.ts';
import { StoredImages } from '../src/adapters/stored-images.ts';
import { SnapshotStore } from '../src/domain/snapshot-store.ts';
import { snapshotStoreHandlers } from '../src/server.ts';

export const MiB = 1024 * 1024;

export interface StoreFixture extends AsyncDisposable {
  readonly dataDir: string;
  readonly client: RpcClient<typeof SnapshotStoreService.method>;
  readonly copyCount: number; // Sources copied since it started.
  import(name: string, sourcePath: string): Promise<Image>;
  createDisk(image: string, id?: string): Promise<Disk>;
}

// A place for sources and a store's data, reachable by unprivileged processes.
export async function workDir(): Promise<AsyncDisposable & { readonly path: string; readonly data: string }> {
  const dir = await tempDir();
  await chmod(dir.path, 0o755);
  const data = join(dir.path, 'data');
  await mkdir(data);
  return Object.assign(dir, { data });
}

// The store as main.ts wires it, over real gRPC in this process. Its clock is 5 s ahead, so that sources
// written just now count as settled.
export async function startStore(dataDir: string, aheadMs = 5000): Promise<StoreFixture> {
  let copyCount = 0;
  const run: RunProgram = (program, args, options) => {
    if (program === 'cp') copyCount += 1;
    return runProgram(program, args, options);
  };
  const clock: Clock = { now: () => new Date(Date.now() + aheadMs) };
  const directory = await StoreDirectory.open(dataDir);
  const images = new StoredImages({ directory, run, clock });
  const disks = new StoredDisks({ directory, backend: new Qcow2Overlay(run), clock });
  const store = new SnapshotStore({ images, disks, log: openLog('test', 'silent') });
  await store.open();
  const server = await serveForTest(SnapshotStoreService, snapshotStoreHandlers(store));
  const client = server.lanes.client('control', SnapshotStoreService);
  return {
    dataDir,
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
      directory.close();
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

// Every file and directory of a store but its three directories and its lock.
export async function storeEntries(dataDir: string): Promise<string[]> {
  const entries = await readdir(dataDir, { recursive: true });
  return entries.filter((entry) => !['images', 'disks', 'tmp', 'lock'].includes(entry)).sort();
}

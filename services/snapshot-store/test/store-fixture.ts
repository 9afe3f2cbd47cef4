import { chmod, open } from 'node:fs/promises';
import { join } from 'node:path';

import { systemClock } from '@wrenn/kit/clock';
import type { RpcClient } from '@wrenn/kit/lanes';
import { openLog } from '@wrenn/kit/log';
import { type RunProgram, runProgram } from '@wrenn/kit/run-program';
import { serveForTest } from '@wrenn/kit/testkit/serve';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import { Qcow2Overlay } from '../src/adapters/qcow2-overlay.ts';
import { StoreDirectory } from '../src/adapters/store-directory.ts';
import { StoredDisks } from '../src/adapters/stored-disks.ts';
import { StoredImages } from '../src/adapters/stored-images.ts';
import { SnapshotStore } from '../src/domain/snapshot-store.ts';
import { snapshotStoreHandlers } from '../src/server.ts';

export type StoreClient = RpcClient<typeof SnapshotStoreService.method>;

export interface StoreFixture extends AsyncDisposable {
  readonly dataDir: string;
  readonly client: StoreClient;
  // Writes a raw image of `mebibytes`, mostly holes, that differs by `content`.
  source(content: string, mebibytes: number): Promise<string>;
}

export interface StoreOptions {
  readonly dataDir?: string; // Default: a new one, gone with the fixture.
  readonly run?: RunProgram;
}

// The whole store, as main.ts wires it, over real gRPC in this process.
export async function startStore({ dataDir, run = runProgram }: StoreOptions = {}): Promise<StoreFixture> {
  const own = await tempDir();
  await chmod(own.path, 0o755);
  const root = dataDir ?? join(own.path, 'data');
  const directory = await StoreDirectory.open(root);
  const images = new StoredImages({ directory, run, clock: systemClock });
  const disks = new StoredDisks({ directory, backend: new Qcow2Overlay(run), clock: systemClock });
  const store = new SnapshotStore({ images, disks, log: openLog('test', 'silent') });
  await store.open();
  const server = await serveForTest(SnapshotStoreService, snapshotStoreHandlers(store));
  return {
    dataDir: root,
    client: server.lanes.client('control', SnapshotStoreService),
    source: (content, mebibytes) => writeSource(join(own.path, `${content}.raw`), content, mebibytes),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      directory.close();
      await own[Symbol.asyncDispose]();
    },
  };
}

export async function writeSource(path: string, content: string, mebibytes: number): Promise<string> {
  const file = await open(path, 'w');
  await file.truncate(mebibytes << 20);
  await file.write(content.repeat(100), 4096);
  await file.close();
  return path;
}

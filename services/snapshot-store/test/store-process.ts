// The real process of the store, to be killed.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import type { FailpointName } from '@wrenn/kit/failpoint';
import { Lanes, type RpcClient } from '@wrenn/kit/lanes';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import type { WorkDir } from './store-fixture.ts';

const main = join(import.meta.dirname, '../src/main.ts');
const startLimitMs = 60_000;

export interface StoreProcess extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly client: RpcClient<typeof SnapshotStoreService.method>;
  // Makes it fail at a place, or nowhere.
  arm(failpoint: FailpointName | '', action?: 'exit' | 'error'): Promise<void>;
  killed(): Promise<void>;
}

export async function spawnStore(dir: WorkDir, socket = join(dir.path, 'run', 'store.sock')): Promise<StoreProcess> {
  const failpoints = join(dir.path, 'failpoints');
  const arm = (failpoint: FailpointName | '', action = 'exit') =>
    writeFile(failpoints, failpoint === '' ? '' : `${failpoint}=${action}`);
  await arm('');
  await mkdir(dirname(socket), { recursive: true });
  const env = {
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
    WRENN_DATA_DIR: dir.data,
    WRENN_RAM_DIR: join(dir.ram, 'store'),
    WRENN_LISTEN: `unix:${socket}`,
    WRENN_LOG_LEVEL: 'error',
    WRENN_FAILPOINTS: `@${failpoints}`,
    WRENN_ALLOW_FAILPOINTS: '1',
  };
  const child = spawn(process.execPath, [main], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = once(child, 'exit');
  const lanes = new Lanes(`unix:${socket}`, 'snapshot-store');
  const client = lanes.client('control', SnapshotStoreService);
  await eventually('the store serves', async () => client.listDisks({}, inMs(1000)), startLimitMs);
  return {
    child,
    client,
    arm,
    async killed() {
      await ended;
    },
    async [Symbol.asyncDispose]() {
      lanes.close();
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await ended;
    },
  };
}

import { statfs } from 'node:fs/promises';

import type { Clock } from '@wrenn/kit/clock';
import type { Metrics } from '@wrenn/kit/metrics/registry';

import type { SnapshotStore } from './domain/snapshot-store.ts';
import type { Snapshots } from './domain/snapshots.ts';
import type { StoredSnapshot } from './domain/snapshot.ts';

export interface CountedStore {
  readonly store: Pick<SnapshotStore, 'listDisks'>;
  readonly snapshots: Pick<Snapshots, 'list'>;
  readonly dataDir: string;
  readonly ramDir: string;
  readonly clock: Clock;
}

const about = 'wrenn_snapshot_store';

export function countStore(metrics: Metrics, { store, snapshots, dataDir, ramDir, clock }: CountedStore): void {
  metrics.read('gauge', { name: `${about}_disks`, help: 'Disks of sandboxes.' }, async () => [
    [(await store.listDisks()).length],
  ]);
  metrics.read(
    'gauge',
    { name: `${about}_disk_bytes`, help: 'What the disks of sandboxes take on the host, shared layers not counted.' },
    async () => [[(await store.listDisks()).reduce((sum, { realBytes }) => sum + realBytes, 0)]],
  );
  metrics.read(
    'gauge',
    { name: `${about}_snapshots`, help: 'Snapshots by state; staged ones are lost in a power cut.', labels: ['state'] },
    () => {
      const all = snapshots.list();
      return states.map((state) => [all.filter((each) => stateOf(each) === state).length, { state }] as const);
    },
  );
  metrics.read(
    'gauge',
    { name: `${about}_oldest_staged_seconds`, help: 'How long the oldest snapshot is not durable; 0 if all are.' },
    () => {
      const staged = snapshots.list().filter((each) => stateOf(each) === 'staged');
      const oldestMs = Math.min(...staged.map(({ createdAt }) => Date.parse(createdAt)));
      return [[staged.length === 0 ? 0 : (clock.now().getTime() - oldestMs) / 1000]];
    },
  );
  metrics.read(
    'gauge',
    { name: `${about}_snapshot_bytes`, help: 'What snapshots take on the host, blocks and metadata.' },
    () => [[snapshots.list().reduce((sum, { ownBytes }) => sum + ownBytes, 0)]],
  );
  metrics.read(
    'gauge',
    {
      name: `${about}_filesystem_bytes`,
      help: 'Size of the file systems that the store is on, and what is free there.',
      labels: ['filesystem', 'kind'],
    },
    async () => [...(await roomOf('data', dataDir)), ...(await roomOf('ram', ramDir))],
  );
}

const states = ['staged', 'durable', 'broken'] as const;

function stateOf({ problem, isDurable }: StoredSnapshot): (typeof states)[number] {
  if (problem !== '') return 'broken';
  return isDurable ? 'durable' : 'staged';
}

async function roomOf(filesystem: string, dir: string) {
  const { bsize, blocks, bavail } = await statfs(dir);
  return [
    [bsize * blocks, { filesystem, kind: 'total' }],
    [bsize * bavail, { filesystem, kind: 'free' }],
  ] as const;
}

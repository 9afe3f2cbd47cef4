import type { Clock } from '@wrenn/kit/clock';
import type { Metrics } from '@wrenn/kit/metrics/registry';

import type { CreateQueue } from './domain/create-queue.ts';
import { isAlive } from './domain/host.ts';
import type { HostStore, SandboxStore } from './domain/ports.ts';

export interface CountedParts {
  readonly sandboxes: SandboxStore;
  readonly hosts: HostStore;
  readonly queue: CreateQueue;
  readonly clock: Clock;
  readonly database: { readonly load: Readonly<Record<'used' | 'free' | 'waiting', number>> };
}

export function countScheduler(metrics: Metrics, { sandboxes, hosts, queue, clock, database }: CountedParts): void {
  metrics.read(
    'gauge',
    { name: 'wrenn_scheduler_sandboxes', help: 'Sandboxes on record, by state.', labels: ['state'] },
    async () => Array.from(await sandboxes.countByState(), ([state, count]) => [count, { state }]),
  );
  metrics.read(
    'gauge',
    { name: 'wrenn_scheduler_hosts', help: 'Hosts by whether they report.', labels: ['state'] },
    async () => {
      const all = await hosts.list();
      const alive = all.filter((host) => isAlive(host, clock.now())).length;
      return [
        [alive, { state: 'alive' }],
        [all.length - alive, { state: 'silent' }],
      ];
    },
  );
  metrics.read('gauge', { name: 'wrenn_scheduler_queued_creates', help: 'Creates that wait for room.' }, () => [
    [queue.length],
  ]);
  metrics.read(
    'gauge',
    { name: 'wrenn_scheduler_database_connections', help: 'Connections of the pool.', labels: ['state'] },
    () => [
      [database.load.used, { state: 'used' }],
      [database.load.free, { state: 'free' }],
    ],
  );
  metrics.read(
    'gauge',
    { name: 'wrenn_scheduler_database_waiters', help: 'Statements and transactions that wait for a connection.' },
    () => [[database.load.waiting]],
  );
}

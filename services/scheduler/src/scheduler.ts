// Wires the service by hand; main.ts runs it as a process, the tests run it within theirs.
import type { Clock } from '@wrenn/kit/clock';
import { hasReason } from '@wrenn/kit/errors';
import type { Log } from '@wrenn/kit/log';
import { OperationTimes } from '@wrenn/kit/metrics/operation-times';
import { Metrics } from '@wrenn/kit/metrics/registry';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { Shutdown } from '@wrenn/kit/shutdown';
import { Causes } from '@wrenn/kit/telemetry/causes';
import { setTimeout as sleep } from 'node:timers/promises';

import { CommitBell } from './adapters/commit-bell.ts';
import { HostLanes } from './adapters/host-lanes.ts';
import { migrate } from './adapters/migrations.ts';
import { PostgresEvents } from './adapters/postgres-events.ts';
import { PostgresHosts } from './adapters/postgres-hosts.ts';
import { PostgresLifecycle } from './adapters/postgres-lifecycle.ts';
import { PostgresQuotas } from './adapters/postgres-quotas.ts';
import { PostgresSandboxes } from './adapters/postgres-sandboxes.ts';
import { PostgresSnapshotNames } from './adapters/postgres-snapshot-names.ts';
import { PostgresSnapshots } from './adapters/postgres-snapshots.ts';
import { PostgresTemplates } from './adapters/postgres-templates.ts';
import { Database } from './adapters/postgres.ts';
import { SnapshotLanes } from './adapters/snapshot-lanes.ts';
import { CreateQueue } from './domain/create-queue.ts';
import { CreateSandbox } from './domain/create-sandbox.ts';
import { DestroySandbox } from './domain/destroy-sandbox.ts';
import { Durability } from './domain/durability.ts';
import { EventFeed } from './domain/event-feed.ts';
import { ForkSandbox } from './domain/fork-sandbox.ts';
import { LiveSnapshot } from './domain/live-snapshot.ts';
import { NameSnapshot } from './domain/name-snapshot.ts';
import { Once } from './domain/once.ts';
import { Operations } from './domain/operations.ts';
import { PauseSandbox } from './domain/pause-sandbox.ts';
import { leastLoaded } from './domain/placement.ts';
import { Reaper } from './domain/reaper.ts';
import { Reconciler } from './domain/reconciler.ts';
import { ResumeSandbox } from './domain/resume-sandbox.ts';
import { SettleSandbox } from './domain/settle-sandbox.ts';
import { SnapshotKeeper } from './domain/snapshot-keeper.ts';
import { WakeSandbox } from './domain/wake-sandbox.ts';
import { countScheduler } from './metrics.ts';
import { addServices, deadlinesMs } from './server.ts';
import { Ticker } from './ticker.ts';

export interface SchedulerOptions {
  readonly listen: string;
  readonly databaseUrl: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly metrics?: Metrics;
  // How often reaper and reconciler look.
  readonly tickMs?: number;
  // How long calls have to end once it stops.
  readonly drainMs?: number;
}

export interface Scheduler {
  readonly port: number;
  isServing(): boolean;
  close(): Promise<void>;
}

const forgetEveryMs = 60_000;
const ticksPerKeeping = 5;

export async function startScheduler(options: SchedulerOptions): Promise<Scheduler> {
  const { log, clock, databaseUrl, metrics = new Metrics(), tickMs = 1000, drainMs = 5000 } = options;
  const stop = new Shutdown(log);
  try {
    const database = stop.own('database', new Database(databaseUrl, log));
    const hosts = new PostgresHosts(database, clock);
    const templates = new PostgresTemplates(database);
    const quotas = new PostgresQuotas(database);
    const causes = new Causes();
    const stores = { database, hosts, quotas, placement: leastLoaded, causes, clock, log };
    const sandboxes = new PostgresSandboxes(stores);
    const lifecycle = new PostgresLifecycle(stores);
    const snapshots = new PostgresSnapshots(stores);
    const names = new PostgresSnapshotNames(stores);
    const bell = stop.own('commit bell', new CommitBell(databaseUrl, log));
    const events = stop.own('events', new EventFeed(new PostgresEvents(database), bell));
    const vms = stop.own('host lanes', new HostLanes());
    const hostSnapshots = new SnapshotLanes(vms);
    const operations = stop.own('operations', new Operations());
    const queue = new CreateQueue(bell);
    const create = new CreateSandbox({ sandboxes, vms, queue, bell, operations, clock, log });
    const once = stop.own('creates', new Once());
    const base = { sandboxes, lifecycle, snapshots, names, hosts, vms, hostSnapshots, bell, operations, clock, log };
    const destroy = stop.own('destroys', new DestroySandbox(base));
    const durability = stop.own('durability', new Durability(base));
    const settler = new SettleSandbox({ ...base, durability });
    const live = stop.own('live snapshots', new LiveSnapshot({ ...base, durability }));
    const pause = stop.own('pauses', new PauseSandbox({ ...base, durability, live, settler }));
    const resume = stop.own('resumes', new ResumeSandbox(base));
    const fork = new ForkSandbox({ ...base, live });
    const naming = new NameSnapshot({ ...base, live, durability });
    const wake = new WakeSandbox({ ...base, resume });
    const reaper = new Reaper(sandboxes, destroy, pause, causes);
    const reconciler = new Reconciler({ ...base, destroy, settler, causes });
    const keeper = new SnapshotKeeper({ ...base, naming, durability });

    const server = stop.own('rpc server', new RpcServer({ log, deadlinesMs, drainMs }));
    const doing = { create, once, destroy, pause, resume, fork, naming, wake };
    const times = new OperationTimes(metrics, 'scheduler');
    const parts = { ...base, ...doing, quotas, templates, events, queue, times };
    addServices(server, parts);
    countScheduler(metrics, { ...parts, database });
    const port = await server.listen(options.listen);
    await migrateOnceReachable(databaseUrl, log);
    bell.open();
    for (const [name, everyMs, work] of [
      ['reaper', tickMs, () => reaper.tick()],
      ['reconciler', tickMs, () => reconciler.tick()],
      ['snapshot keeper', ticksPerKeeping * tickMs, () => keeper.tick()],
      ['retention', forgetEveryMs, () => sandboxes.forget()],
    ] as const) {
      stop.own(name, new Ticker({ name, everyMs, work, log }));
    }
    // Watchers, and creates that wait, would hold the server's end up; they are told first.
    stop.own('create queue', queue);
    stop.own('watchers', { close: () => events.close() });
    server.ready();
    return { port, isServing: () => server.isServing, close: () => stop.close() };
  } catch (error) {
    await stop.close();
    throw error;
  }
}

// A database that is not up yet is waited for; one that cannot be used ends the process.
async function migrateOnceReachable(databaseUrl: string, log: Log): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await migrate(databaseUrl, log);
      return;
    } catch (error) {
      if (!hasReason(error, 'DATABASE_UNAVAILABLE')) throw error;
      if (attempt === 0) log.warn({ err: error }, 'waiting for the database');
      await sleep(300);
    }
  }
}

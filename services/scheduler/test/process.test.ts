// The service as an operator runs it: a process, its environment, its signals.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { Lanes } from '@wrenn/kit/lanes';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { Health, HealthCheckResponse_ServingStatus as Serving } from '@wrenn/proto/grpc/health/v1/health';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { SandboxService, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';

import { type OwnDatabaseServer, ownDatabaseServers } from './support/database-servers.ts';
import { startTestHost, untilAborted } from './support/test-host.ts';
import { MiB, soon } from './support/test-mesh.ts';

vi.setConfig({ testTimeout: 60_000 });
const startLimitMs = 30_000;

const capacity = { cpuCount: 2, memoryBytes: 4096n * MiB, slotCount: 8, vmm: 'qemu', accelerator: 'tcg' };

let database: OwnDatabaseServer;
beforeAll(async () => {
  database = (await ownDatabaseServers[0]?.startServer()) as OwnDatabaseServer;
});
afterAll(() => database.close());

function run(env: Record<string, string>): ChildProcess & { output: string } {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../src/main.ts')], {
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const running = Object.assign(child, { output: '' });
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      running.output += text;
    });
  }
  return running;
}

async function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode;
}

async function startedIn(dir: string, databaseUrl: string) {
  await writeFile(join(dir, 'database-url'), `${databaseUrl}\n`, { mode: 0o600 });
  const address = `unix:${join(dir, 'scheduler.sock')}`;
  const child = run({ WRENN_LISTEN: address, WRENN_DATABASE_URL_FILE: join(dir, 'database-url') });
  const lanes = new Lanes(address, 'scheduler');
  const health = lanes.client('control', Health);
  const status = async () => {
    if (child.exitCode !== null) throw new Error(`it ended: ${child.output}`);
    return (await health.check({}, soon())).status;
  };
  return {
    child,
    lanes,
    status,
    isServing: async () => (await status()) === Serving.SERVING,
    sandboxes: lanes.client('control', SandboxService),
    inside: lanes.client('control', SchedulerService),
    async [Symbol.asyncDispose]() {
      lanes.close();
      child.kill('SIGKILL');
      await exitOf(child);
    },
  };
}

test('ends a create as an error that a killed scheduler had left half-done, and has its VM removed', async () => {
  await using dir = await tempDir();
  const url = await database.newDatabase();
  const host = await startTestHost('h1');
  let sandboxId: string;
  {
    await using first = await startedIn(dir.path, url);
    await eventually('it serves', first.isServing, startLimitMs);
    const template = { name: 'debian', image: 'debian', vcpuCount: 1, memoryBytes: 512n * MiB, diskBytes: MiB };
    await first.inside.putTemplate({ template }, soon());
    await first.inside.reportHost({ hostId: 'h1', address: host.address, capacity }, soon());
    host.whileCreating = (_id, signal) => untilAborted(signal);
    const created = first.sandboxes.create({ template: 'debian' }, soon()).catch((error: unknown) => error);
    sandboxId = (await eventually('the host is making it', () => host.created[0])).sandboxId;
    first.child.kill('SIGKILL');
    expect(await created).toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
  }
  await using second = await startedIn(dir.path, url);
  await eventually('it serves again', second.isServing, startLimitMs);
  // A host reports by itself; this one does so here.
  await second.inside.reportHost({ hostId: 'h1', address: host.address, capacity }, soon());
  const { sandbox } = await eventually('the next life ended it', async () => {
    const found = await second.sandboxes.get({ sandboxId }, soon());
    return found.sandbox?.state === SandboxState.ERROR && found;
  });
  expect(sandbox?.errorReason).toBe('SCHEDULER_RESTARTED');
  await eventually('its host was asked to remove it', () => host.destroyed.includes(sandboxId));
  await host.close();
});

test('waits for its database, says NOT_SERVING meanwhile, and ends cleanly on SIGTERM', async () => {
  await using dir = await tempDir();
  const url = await database.newDatabase();
  await database.kill();
  await using scheduler = await startedIn(dir.path, url);
  expect(await eventually('it answers', scheduler.status, startLimitMs)).toBe(Serving.NOT_SERVING);
  await database.start();
  await eventually('it serves', scheduler.isServing, startLimitMs);
  scheduler.child.kill('SIGTERM');
  expect(await exitOf(scheduler.child)).toBe(0);
});

test('names every bad variable at once and exits with 78', async () => {
  const child = run({ WRENN_LISTEN: 'nowhere', WRENN_PORT: '1' });
  expect(await exitOf(child)).toBe(78);
  await eventually('all are named', () =>
    ['WRENN_LISTEN', 'WRENN_PORT', 'WRENN_DATABASE_URL_FILE'].every((name) => child.output.includes(name)),
  );
});

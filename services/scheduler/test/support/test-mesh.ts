// A scheduler on a database of its own, with hosts that a test makes, and clients to call it.
import { join } from 'node:path';

import type { MessageInitShape } from '@bufbuild/protobuf';
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { type SandboxId, newSandboxId } from '@wrenn/kit/ids';
import { Lanes } from '@wrenn/kit/lanes';
import { openLog } from '@wrenn/kit/log';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { HostService } from '@wrenn/proto/wrenn/v1/host';
import { type Sandbox, SandboxService, type SandboxServiceCreateRequestSchema } from '@wrenn/proto/wrenn/v1/sandbox';
import { SnapshotService } from '@wrenn/proto/wrenn/v1/snapshot';

import { expect } from 'vitest';

import { type Scheduler, startScheduler } from '../../src/scheduler.ts';
import type { DatabaseServer } from './database-servers.ts';
import { type TestHost, startTestHost } from './test-host.ts';

export const MiB = 1024n * 1024n;

export const soon = () => inMs(10_000);

export interface HostSize {
  readonly slotCount?: number;
  readonly memoryBytes?: bigint;
  readonly cpuCount?: number;
  readonly diskBytes?: bigint;
}

export type CreateFields = Omit<MessageInitShape<typeof SandboxServiceCreateRequestSchema>, '$typeName' | '$unknown'>;

export async function startTestMesh(database: DatabaseServer) {
  const dir = await tempDir();
  const databaseUrl = await database.newDatabase();
  const address = `unix:${join(dir.path, 'scheduler.sock')}`;
  let aheadMs = 0;
  const clock = { now: () => new Date(Date.now() + aheadMs) };
  const start = () =>
    startScheduler({ listen: address, databaseUrl, log: openLog('test', 'silent'), clock, tickMs: 50, drainMs: 300 });
  let scheduler: Scheduler = await start();
  const lanes = new Lanes(address, 'scheduler');
  const inside = lanes.client('control', SchedulerService);
  const sandboxes = lanes.client('control', SandboxService);
  const hosts: { host: TestHost; size: HostSize }[] = [];

  const report = async ({ id, address: hostAddress }: TestHost, { slotCount = 8, memoryBytes, ...size }: HostSize) => {
    const capacity = { cpuCount: 8, memoryBytes: memoryBytes ?? 64n * 1024n * MiB, slotCount, ...size };
    await inside.reportHost(
      { hostId: id, address: hostAddress, capacity: { ...capacity, vmm: 'qemu 7.2', accelerator: 'tcg' } },
      soon(),
    );
  };
  const putTemplate = (name: string, fields: { readonly defaultUser?: string } = {}) =>
    inside.putTemplate(
      { template: { name, image: name, vcpuCount: 1, memoryBytes: 512n * MiB, diskBytes: 1024n * MiB, ...fields } },
      soon(),
    );
  await putTemplate('debian');

  return {
    address,
    databaseUrl,
    inside,
    sandboxes,
    snapshots: lanes.client('control', SnapshotService),
    hosts: lanes.client('control', HostService),
    putTemplate,
    async addHost(id: string, size: HostSize = {}): Promise<TestHost> {
      const host = await startTestHost(id);
      hosts.push({ host, size });
      await report(host, size);
      return host;
    },
    async create(fields: CreateFields = {}): Promise<Sandbox & { id: SandboxId }> {
      const { sandbox } = await sandboxes.create({ template: 'debian', ...fields }, soon());
      return present(sandbox) as Sandbox & { id: SandboxId };
    },
    async get(id: string): Promise<Sandbox> {
      return present((await sandboxes.get({ sandboxId: id }, soon())).sandbox);
    },
    // Lets time pass; hosts keep reporting meanwhile.
    async advance(ms: number): Promise<void> {
      aheadMs += ms;
      for (const { host, size } of hosts) await report(host, size);
    },
    advanceInSilence(ms: number): void {
      aheadMs += ms;
    },
    stop: () => scheduler.close(),
    async start(): Promise<void> {
      scheduler = await start();
    },
    async [Symbol.asyncDispose]() {
      lanes.close();
      await scheduler.close();
      for (const { host } of hosts) await host.close();
      await dir[Symbol.asyncDispose]();
    },
  };
}

export type TestMesh = Awaited<ReturnType<typeof startTestMesh>>;

export function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('the answer lacks it');
  return value;
}

// The reason a call fails for.
export async function reasonOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof WrennError) return error.reason;
    throw error;
  }
  throw new Error('the call succeeded');
}

// The scheduler gives a statement 950 ms; what a busy machine adds is not its fault, and callers here wait for 10 s.
export async function refusedInTime(call: Promise<unknown>): Promise<void> {
  const startMs = performance.now();
  expect(await reasonOf(call)).toBe('DATABASE_UNAVAILABLE');
  expect(performance.now() - startMs).toBeLessThan(refusedWithinMs);
}

export const refusedWithinMs = 4000;

export const unknownId = newSandboxId(() => new Uint8Array(16));

import { inMs } from '@wrenn/kit/deadlines';
import { msOfDuration } from '@wrenn/kit/duration';
import { WrennError } from '@wrenn/kit/errors';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type DatabaseServer, databaseServers, execute } from './support/database-servers.ts';
import { untilAborted } from './support/test-host.ts';
import { MiB, type TestMesh, present, reasonOf, soon, startTestMesh } from './support/test-mesh.ts';

const outcome = (call: Promise<unknown>) =>
  call.then(
    () => 'made',
    (error: WrennError) => error.reason,
  );

function countOf(outcomes: readonly string[]): Record<string, number> {
  return Object.fromEntries(
    Object.entries(Object.groupBy(outcomes, (each) => each)).map(([k, v]) => [k, v?.length ?? 0]),
  );
}

const queued = (mesh: TestMesh, seconds = 30, limitMs = 60_000) =>
  mesh.sandboxes.create({ template: 'debian', queueTimeout: { seconds: BigInt(seconds) } }, inMs(limitMs));

// Whoever does not wait is told how many do.
const untilQueued = (mesh: TestMesh, count: number) =>
  eventually(`${count} wait`, async () => {
    const refusal = await mesh.create().catch((error: unknown) => error);
    return refusal instanceof WrennError && refusal.meta['waiting'] === String(count);
  });

describe.each(databaseServers)('on $name', ({ startServer }) => {
  let database: DatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('refuses exactly the ten that ten more than there is room for are, and has none of them wait', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1', { slotCount: 14 });
    const gate = Promise.withResolvers<void>();
    host.whileCreating = () => gate.promise;
    const ended: string[] = [];
    const creates = Array.from({ length: 24 }, async () => ended.push(await outcome(mesh.create())));
    await eventually('ten have their answer', () => ended.length >= 10);
    expect(countOf(ended)).toEqual({ NO_HOST_LEFT: 10 });
    gate.resolve();
    await Promise.all(creates);
    expect(countOf(ended)).toEqual({ made: 14, NO_HOST_LEFT: 10 });
    const { sandboxes } = await mesh.sandboxes.list({}, soon());
    await mesh.sandboxes.destroy({ sandboxId: present(sandboxes[0]).id }, soon());
    await mesh.create();
  });

  test('counts memory, processors and disk of a host, and says of each how much is free', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1', { cpuCount: 1, memoryBytes: 4096n * MiB, diskBytes: 8192n * MiB });
    await mesh.create({ vcpuCount: 6, memoryBytes: 1024n * MiB, diskBytes: 6144n * MiB });
    const refusalOf = async (fields: Parameters<TestMesh['create']>[0]) => {
      const error = await mesh.create(fields).catch((caught: unknown) => caught);
      return error instanceof WrennError ? { reason: error.reason, ...error.meta } : error;
    };
    expect(await refusalOf({ vcpuCount: 3 })).toMatchObject({
      reason: 'NO_HOST_LEFT',
      ran_out: 'vcpu_count',
      free_vcpu_count: '2',
      free_memory_bytes: String(3072n * MiB),
      free_disk_bytes: String(2048n * MiB),
      free_slot_count: '7',
    });
    expect(await refusalOf({ memoryBytes: 3074n * MiB })).toMatchObject({ ran_out: 'memory_bytes' });
    expect(await refusalOf({ diskBytes: 2049n * MiB })).toMatchObject({ ran_out: 'disk_bytes' });
    expect(await refusalOf({ vcpuCount: 9 })).toMatchObject({ ran_out: 'vcpu_count', too_large: 'vcpu_count' });
    const { hosts } = await mesh.hosts.list({}, soon());
    expect(hosts[0]).toMatchObject({
      placedVcpuCount: 6,
      placedMemoryBytes: 1024n * MiB,
      placedDiskBytes: 6144n * MiB,
      capacity: { diskBytes: 8192n * MiB },
    });
    await mesh.create({ vcpuCount: 2, memoryBytes: 3072n * MiB, diskBytes: 2048n * MiB });
  });

  test('holds a project to its quota, however many creates come at once, and no other one', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1', { slotCount: 100, cpuCount: 64 });
    await mesh.inside.putQuota({ quota: { project: 'team-a', sandboxCount: 3 } }, soon());
    const racing = Array.from({ length: 13 }, () => outcome(mesh.create({ project: 'team-a' })));
    const others = Array.from({ length: 5 }, () => outcome(mesh.create({ project: 'team-b' })));
    expect(countOf(await Promise.all(racing))).toEqual({ made: 3, QUOTA_EXCEEDED: 10 });
    expect(countOf(await Promise.all(others))).toEqual({ made: 5 });
    const refusal = await mesh.create({ project: 'team-a' }).catch((error: unknown) => error);
    expect(refusal).toMatchObject({
      meta: { project: 'team-a', resource: 'sandbox_count', limit: '3', used: '3', needed: '1' },
    });
    // Raised, and lifted.
    await mesh.inside.putQuota({ quota: { project: 'team-a', sandboxCount: 4, memoryBytes: 2048n * MiB } }, soon());
    expect((await mesh.create({ project: 'team-a' })).project).toBe('team-a');
    await mesh.inside.putQuota({ quota: { project: 'team-a' } }, soon());
    await mesh.create({ project: 'team-a' });
    expect((await mesh.create()).project).toBe('default');
  });

  test('gives a quota back with the sandbox, also when its create failed', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    await mesh.inside.putQuota({ quota: { project: 'default', memoryBytes: 512n * MiB } }, soon());
    host.whileCreating = async () => {
      throw new WrennError('VMM_START_FAILED', 'no');
    };
    expect(await reasonOf(mesh.create())).toBe('VMM_START_FAILED');
    host.whileCreating = async () => {};
    const { id } = await mesh.create();
    expect(await reasonOf(mesh.create())).toBe('QUOTA_EXCEEDED');
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    await mesh.create();
  });

  test('lets a create wait for room, in order, and says how long it waited', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1', { slotCount: 2 });
    const running = [await mesh.create(), await mesh.create()];
    const first = queued(mesh);
    await untilQueued(mesh, 1);
    const second = queued(mesh);
    await untilQueued(mesh, 2);
    await mesh.sandboxes.destroy({ sandboxId: present(running[0]).id }, soon());
    const { sandbox, timings } = await first;
    expect(sandbox?.state).toBe(SandboxState.RUNNING);
    expect(timings.map(({ stage }) => stage)).toEqual(['queue', 'place', 'boot']);
    expect(msOfDuration(present(timings[0]?.duration))).toBeGreaterThan(1);
    expect(host.created).toHaveLength(3);
    await mesh.sandboxes.destroy({ sandboxId: present(running[1]).id }, soon());
    await second;
  });

  test('wakes those that wait when a host comes, or a quota is raised', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.inside.putQuota({ quota: { project: 'default', sandboxCount: 1 } }, soon());
    const waiting = queued(mesh);
    await untilQueued(mesh, 1);
    await mesh.addHost('h1');
    await waiting;
    const over = queued(mesh);
    await untilQueued(mesh, 1);
    await mesh.inside.putQuota({ quota: { project: 'default', sandboxCount: 2 } }, soon());
    await over;
  });

  test('refuses one that waited for as long as it wanted, and forgets one whose caller left', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1', { slotCount: 1 });
    const { id } = await mesh.create();
    const startMs = performance.now();
    expect(await outcome(queued(mesh, 1))).toBe('NO_HOST_LEFT');
    expect(performance.now() - startMs).toBeGreaterThan(950);
    const call = { ...inMs(60_000), signal: AbortSignal.timeout(200) };
    const left = mesh.sandboxes.create({ template: 'debian', queueTimeout: { seconds: 30n } }, call);
    expect(await reasonOf(left)).toBe('CANCELLED');
    expect(await reasonOf(queued(mesh, 30, 300))).toMatch(/DEADLINE_EXCEEDED|NO_HOST_LEFT/);
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    await mesh.create();
    expect(host.created).toHaveLength(2);
    const records = await execute(mesh.databaseUrl, 'select count(*)::int from sandboxes');
    expect(records).toEqual([[2]]);
  });

  test('sends those that wait away when it stops', async () => {
    await using mesh = await startTestMesh(database);
    const waiting = reasonOf(queued(mesh));
    await untilQueued(mesh, 1);
    await mesh.stop();
    expect(await waiting).toBe('SERVICE_UNAVAILABLE');
    await mesh.start();
  });

  test('queues through an outage of the host it is waiting for', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1', { slotCount: 1 });
    host.whileCreating = (_id, signal) => untilAborted(signal);
    const abort = new AbortController();
    const stuck = mesh.sandboxes.create({ template: 'debian' }, { ...soon(), signal: abort.signal });
    const stuckReason = reasonOf(stuck);
    await eventually('the host is making it', () => host.created.length === 1);
    const waiting = queued(mesh);
    host.whileCreating = async () => {};
    abort.abort();
    expect(await stuckReason).toBe('CANCELLED');
    await waiting;
  });

  test('keeps the address for bytes in number that a host reports', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const resolve = () => mesh.inside.resolveSandbox({ sandboxId: id }, soon());
    expect((await resolve()).hostBulkAddress).toBe('');
    const capacity = { cpuCount: 1, memoryBytes: 4096n * MiB, slotCount: 8, vmm: 'qemu', accelerator: 'tcg' };
    await mesh.inside.reportHost({ hostId: 'h1', address: host.address, bulkAddress: 'h1:9473', capacity }, soon());
    expect(await resolve()).toMatchObject({ hostAddress: host.address, hostBulkAddress: 'h1:9473' });
  });
});

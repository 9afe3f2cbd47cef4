import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { newSnapshotId } from '@wrenn/kit/ids';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type DatabaseServer, databaseServers, execute } from './support/database-servers.ts';
import { rows, untilKept } from './support/looks.ts';
import { untilAborted } from './support/test-host.ts';
import { MiB, present, reasonOf, soon, startTestMesh, unknownId } from './support/test-mesh.ts';

describe.each(databaseServers)('on $name', ({ startServer }) => {
  let database: DatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('names a snapshot of a running sandbox, which runs on, once it is durable', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create({ vcpuCount: 2 });
    const gate = Promise.withResolvers<void>();
    host.whileCommitting = () => gate.promise;
    const making = mesh.snapshots.create({ sandboxId: id, name: 'ready' }, soon());
    await eventually('it is frozen', () => host.snapshots.size === 1);
    expect((await mesh.snapshots.list({}, soon())).snapshots).toEqual([]);
    expect(await reasonOf(mesh.snapshots.get({ name: 'ready' }, soon()))).toBe('SNAPSHOT_NOT_FOUND');
    expect(await reasonOf(mesh.create({ template: 'ready' }))).toBe('TEMPLATE_NOT_FOUND');
    expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
    gate.resolve();
    const snapshot = present((await making).snapshot);
    expect(snapshot).toMatchObject({
      name: 'ready',
      sandboxId: id,
      template: 'debian',
      hostId: 'h1',
      vcpuCount: 2,
      memoryBytes: 512n * MiB,
      diskBytes: 1024n * MiB,
      generation: 0,
      builds: [],
    });
    expect((await mesh.snapshots.list({}, soon())).snapshots).toEqual([snapshot]);
    const { snapshot: found } = await mesh.snapshots.get({ name: 'ready' }, soon());
    expect(found).toMatchObject({ id: snapshot.id, problem: '', builds: [{ id: snapshot.id, memoryBytes: 4096n }] });
  });

  test('names what a paused sandbox stands on, as often as one likes, and freezes nothing', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    const { snapshotId } = await mesh.get(id);
    for (const name of ['one', 'two']) await mesh.snapshots.create({ sandboxId: id, name }, soon());
    const { snapshots } = await mesh.snapshots.list({}, soon());
    expect(snapshots.map((each) => [each.name, each.id])).toEqual([
      ['one', snapshotId],
      ['two', snapshotId],
    ]);
    expect(host.frozen).toHaveLength(1);
    await mesh.snapshots.delete({ name: 'one' }, soon());
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    await untilKept(host);
    expect([...host.snapshots.keys()]).toEqual([snapshotId]);
    expect((await mesh.create({ template: 'two' })).snapshotId).toBe(snapshotId);
  });

  test('makes sandboxes from a snapshot, also when its source is gone, on the host that has it', async () => {
    await using mesh = await startTestMesh(database);
    const [first, second] = [await mesh.addHost('h1', { slotCount: 3 }), await mesh.addHost('h2')];
    const { id, hostId } = await mesh.create({ env: { A: '1', B: '2' }, vcpuCount: 2 });
    const { snapshot } = await mesh.snapshots.create({ sandboxId: id, name: 'ready' }, soon());
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    const host = hostId === 'h1' ? first : second;
    const made = [
      await mesh.create({ template: 'ready', env: { B: '3' } }),
      await mesh.create({ template: 'ready', vcpuCount: 2, memoryBytes: 512n * MiB, diskBytes: 1024n * MiB }),
    ];
    for (const sandbox of made) {
      expect(sandbox).toMatchObject({ hostId, template: 'debian', snapshotId: snapshot?.id, vcpuCount: 2 });
    }
    const [fromFirst] = host.created.filter(({ snapshotId }) => snapshotId !== '');
    expect(fromFirst).toMatchObject({ snapshotId: snapshot?.id, env: { A: '1', B: '3' }, image: '', vcpuCount: 0 });
  });

  test.each([
    ['vcpuCount', 'vcpu_count', 2],
    ['memoryBytes', 'memory_bytes', 1024n * MiB],
    ['diskBytes', 'disk_bytes', 2048n * MiB],
  ])('refuses another %s than the snapshot has, and names what it has', async (field, name, value) => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.snapshots.create({ sandboxId: id, name: 'ready' }, soon());
    const refusal = await mesh.create({ template: 'ready', [field]: value }).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ reason: 'INVALID_FIELD', meta: { field: name } });
    expect(String(refusal)).toMatch(/vcpu_count 1, memory_bytes 536870912, disk_bytes 1073741824/);
  });

  test('keeps snapshots and templates in one namespace, and lets each name stand for one thing', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create();
    const named = (name: string) => reasonOf(mesh.snapshots.create({ sandboxId: id, name }, soon()));
    expect(await named('debian')).toBe('SNAPSHOT_EXISTS');
    await mesh.snapshots.create({ sandboxId: id, name: 'mine' }, soon());
    expect(await named('mine')).toBe('SNAPSHOT_EXISTS');
    expect(await reasonOf(mesh.putTemplate('mine'))).toBe('SNAPSHOT_EXISTS');
    const racing = Array.from({ length: 4 }, () => mesh.snapshots.create({ sandboxId: id, name: 'race' }, soon()));
    const outcomes = await Promise.allSettled(racing);
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(await named('Not a name')).toBe('INVALID_FIELD');
    const unknown = mesh.snapshots.create({ sandboxId: unknownId, name: 'other' }, soon());
    expect(await reasonOf(unknown)).toBe('SANDBOX_NOT_FOUND');
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    expect(await named('other')).toBe('SANDBOX_NOT_FOUND');
  });

  test('deletes a snapshot while sandboxes made from it go on, but not while one is being made', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.snapshots.create({ sandboxId: id, name: 'ready' }, soon());
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    const gate = Promise.withResolvers<void>();
    host.whileCreating = () => gate.promise;
    const making = mesh.create({ template: 'ready' });
    await eventually('it is being made', () => host.created.length === 2);
    expect(await reasonOf(mesh.snapshots.delete({ name: 'ready' }, soon()))).toBe('SNAPSHOT_IN_USE');
    gate.resolve();
    const made = await making;
    await mesh.snapshots.delete({ name: 'ready' }, soon());
    expect(await reasonOf(mesh.snapshots.delete({ name: 'ready' }, soon()))).toBe('SNAPSHOT_NOT_FOUND');
    expect(await reasonOf(mesh.create({ template: 'ready' }))).toBe('TEMPLATE_NOT_FOUND');
    await untilKept(host);
    // It stands on it still, and its next pause does.
    expect([...host.snapshots.keys()]).toEqual([made.snapshotId]);
    await mesh.sandboxes.pause({ sandboxId: made.id, waitDurable: true }, soon());
    await eventually('the old one is deleted', () => host.snapshots.size === 1);
    expect([...host.snapshots.keys()]).toEqual([(await mesh.get(made.id)).snapshotId]);
  });

  test('gives the name back when the snapshot cannot be made, or its caller leaves', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const create = (limitMs = 10_000) => mesh.snapshots.create({ sandboxId: id, name: 'ready' }, inMs(limitMs));
    host.whileFreezing = async () => {
      throw new WrennError('AGENT_UNREACHABLE', 'no answer');
    };
    expect(await reasonOf(create())).toBe('AGENT_UNREACHABLE');
    host.whileFreezing = async () => {};
    host.whileCommitting = async () => {
      throw new WrennError('DISK_FULL', 'no space');
    };
    expect(await reasonOf(create())).toBe('DISK_FULL');
    host.whileCommitting = (_id, signal) => untilAborted(signal);
    expect(await reasonOf(create(500))).toBe('DEADLINE_EXCEEDED');
    await eventually('the name is free', async () => (await rows(mesh, 'snapshot_names')) === 0);
    host.whileCommitting = async () => {};
    expect((await create()).snapshot?.name).toBe('ready');
    expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
  });

  test('makes one snapshot for many calls with one id, and goes on when its caller leaves', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const gate = Promise.withResolvers<void>();
    host.whileCommitting = () => gate.promise;
    const request = { sandboxId: id, name: 'ready', requestId: 'snap-1' };
    expect(await reasonOf(mesh.snapshots.create(request, inMs(400)))).toBe('DEADLINE_EXCEEDED');
    const again = mesh.snapshots.create(request, soon());
    gate.resolve();
    const made = present((await again).snapshot);
    expect((await mesh.snapshots.create(request, soon())).snapshot).toEqual(made);
    expect(host.frozen).toHaveLength(1);
    const other = mesh.snapshots.create({ ...request, name: 'other' }, soon());
    expect(await reasonOf(other)).toBe('REQUEST_ID_REUSED');
  });

  test('makes a snapshot for a repeated call whose first try ended with the scheduler, before its host froze', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const request = { sandboxId: id, name: 'ready', requestId: 'snap-1' };
    host.whileFreezing = (_id, signal) => untilAborted(signal);
    const first = mesh.snapshots.create(request, soon()).catch((error: unknown) => error);
    await eventually('its host is asked', () => host.frozen.length === 1);
    // One that is killed cannot give the name back.
    await execute(mesh.databaseUrl, 'create table kept as select * from snapshot_names');
    await mesh.stop();
    await first;
    await execute(mesh.databaseUrl, 'insert into snapshot_names select * from kept');
    host.whileFreezing = async () => {};
    await mesh.start();
    const { snapshot } = await mesh.snapshots.create(request, soon());
    expect(snapshot).toMatchObject({ name: 'ready', sandboxId: id });
  });

  test('deletes on a host what nobody needs: strangers, older generations, what a paused one stood on before', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    for (let cycle = 0; cycle < 3; cycle++) {
      await mesh.sandboxes.pause({ sandboxId: id, waitDurable: true }, soon());
      if (cycle < 2) await mesh.sandboxes.resume({ sandboxId: id }, soon());
    }
    host.snapshots.set(newSnapshotId(), { sandboxId: id, parentId: '', isDurable: true });
    const { snapshotId } = await mesh.get(id);
    await eventually('only the newest is left', () => host.snapshots.size === 1);
    expect([...host.snapshots.keys()]).toEqual([snapshotId]);
    await eventually('only its row is left', async () => (await rows(mesh, 'snapshots')) === 1);
    await untilKept(host);
    expect(host.snapshots.size).toBe(1);
  });

  test('keeps the last durable generation, and every parent, until the newest is durable', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.sandboxes.pause({ sandboxId: id, waitDurable: true }, soon());
    const first = await mesh.get(id);
    const gate = Promise.withResolvers<void>();
    host.whileCommitting = () => gate.promise;
    for (let cycle = 0; cycle < 2; cycle++) {
      await mesh.sandboxes.resume({ sandboxId: id }, soon());
      await mesh.sandboxes.pause({ sandboxId: id }, soon());
    }
    await untilKept(host);
    expect(host.snapshots.has(first.snapshotId)).toBe(true);
    expect(host.snapshots.size).toBe(3);
    gate.resolve();
    await eventually('only the newest is left', () => host.snapshots.size === 1);
    expect([...host.snapshots.keys()]).toEqual([(await mesh.get(id)).snapshotId]);
  });

  test('shows a snapshot whose files its host has lost, with the problem', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.snapshots.create({ sandboxId: id, name: 'ready' }, soon());
    host.snapshots.clear();
    const { snapshot } = await mesh.snapshots.get({ name: 'ready' }, soon());
    expect(snapshot?.problem).toMatch(/h1 does not have its files/);
    expect(await reasonOf(mesh.create({ template: 'ready' }))).toBe('SNAPSHOT_CORRUPT');
  });
});

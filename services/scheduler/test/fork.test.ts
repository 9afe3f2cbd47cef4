import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type DatabaseServer, databaseServers } from './support/database-servers.ts';
import { rows, untilKept, untilState } from './support/looks.ts';
import { untilAborted } from './support/test-host.ts';
import { present, reasonOf, soon, startTestMesh, unknownId } from './support/test-mesh.ts';

const requestId = 'fork-1';

describe.each(databaseServers)('on $name', ({ startServer }) => {
  let database: DatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('forks a running sandbox: one freeze, children with ids, labels and variables of their own, the source goes on', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const source = await mesh.create({ env: { A: '1', B: '2' }, ttl: { seconds: 600n }, metadata: { who: 'source' } });
    const { sandboxes, timings } = await mesh.sandboxes.fork(
      { sandboxId: source.id, count: 3, env: { B: '3' }, metadata: { who: 'child' }, ttl: { seconds: 60n } },
      soon(),
    );
    expect(new Set([source.id, ...sandboxes.map(({ id }) => id)]).size).toBe(4);
    const after = await mesh.get(source.id);
    expect(after).toMatchObject({ state: SandboxState.RUNNING, ttl: { seconds: 600n }, metadata: { who: 'source' } });
    expect(after.snapshotId).toMatch(/^sn-/);
    for (const child of sandboxes) {
      expect(child).toMatchObject({
        state: SandboxState.RUNNING,
        hostId: 'h1',
        template: 'debian',
        ttl: { seconds: 60n },
        metadata: { who: 'child' },
        snapshotId: after.snapshotId,
      });
    }
    expect(host.frozen).toMatchObject([{ sandboxId: source.id, keepRunning: true }]);
    expect(host.created.slice(1).map(({ snapshotId, env }) => [snapshotId, env])).toEqual(
      Array(3).fill([after.snapshotId, { A: '1', B: '3' }]),
    );
    expect(timings.map(({ stage }) => stage)).toEqual(['place', 'freeze', 'restore']);
    // Its next pause stands on what it goes on from.
    await mesh.sandboxes.pause({ sandboxId: source.id, waitDurable: true }, soon());
    const paused = await mesh.get(source.id);
    expect(host.snapshots.get(paused.snapshotId)?.parentId).toBe(after.snapshotId);
  });

  test('forks a paused sandbox without a freeze, and leaves it paused', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const source = await mesh.create();
    await mesh.sandboxes.pause({ sandboxId: source.id }, soon());
    const { sandboxes } = await mesh.sandboxes.fork({ sandboxId: source.id }, soon());
    expect(sandboxes).toHaveLength(1);
    const paused = await mesh.get(source.id);
    expect(paused.state).toBe(SandboxState.PAUSED);
    expect(present(sandboxes[0]).snapshotId).toBe(paused.snapshotId);
    expect(host.frozen).toHaveLength(1);
    await mesh.sandboxes.destroy({ sandboxId: source.id }, soon());
    // The child stands on it still.
    expect(host.snapshots.has(paused.snapshotId)).toBe(true);
    await mesh.sandboxes.pause({ sandboxId: present(sandboxes[0]).id }, soon());
  });

  test('makes all children or none, and neither freezes nor keeps anything where there is no room', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1', { slotCount: 3 });
    const { id } = await mesh.create();
    // Room elsewhere is none: the frozen image is here.
    await mesh.addHost('h2');
    const full = await mesh.sandboxes.fork({ sandboxId: id, count: 20 }, soon()).catch((error: unknown) => error);
    expect(full).toMatchObject({ reason: 'NO_HOST_LEFT' });
    expect(String(full)).toMatch(/slots left, 20 are needed/);
    expect(host.frozen).toEqual([]);
    expect(await rows(mesh, 'snapshots')).toBe(0);

    let made = 0;
    host.whileCreating = async () => {
      if (++made === 2) throw new WrennError('GUEST_NOT_READY', 'no answer');
    };
    expect(await reasonOf(mesh.sandboxes.fork({ sandboxId: id, count: 2 }, soon()))).toBe('GUEST_NOT_READY');
    expect([...host.vms.keys()]).toEqual([id]);
    const { sandboxes } = await mesh.sandboxes.list({ states: [SandboxState.ERROR] }, soon());
    expect(sandboxes.map(({ errorReason }) => errorReason)).toEqual(['GUEST_NOT_READY', 'GUEST_NOT_READY']);
    expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
  });

  test('counts every child against the quota of the source’s project', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const quota = { project: 'team', sandboxCount: 3, vcpuCount: 0, memoryBytes: 0n, diskBytes: 0n };
    await mesh.inside.putQuota({ quota }, soon());
    const { id } = await mesh.create({ project: 'team' });
    expect(await reasonOf(mesh.sandboxes.fork({ sandboxId: id, count: 3 }, soon()))).toBe('QUOTA_EXCEEDED');
    const { sandboxes } = await mesh.sandboxes.fork({ sandboxId: id, count: 2 }, soon());
    expect(sandboxes.map(({ project }) => project)).toEqual(['team', 'team']);
  });

  test('forks once for many calls with one id, at once and later, and across a restart', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const call = () => mesh.sandboxes.fork({ sandboxId: id, count: 2, requestId }, soon());
    const answers = await Promise.all(Array.from({ length: 5 }, call));
    const ids = answers.map(({ sandboxes }) => sandboxes.map((each) => each.id));
    expect(new Set(ids.map((each) => each.join())).size).toBe(1);
    await mesh.stop();
    await mesh.start();
    expect((await call()).sandboxes.map((each) => each.id)).toEqual(ids[0]);
    expect(host.created).toHaveLength(3);
    const other = mesh.sandboxes.fork({ sandboxId: id, count: 3, requestId }, soon());
    expect(await reasonOf(other)).toBe('REQUEST_ID_REUSED');
    expect(await reasonOf(mesh.create({ requestId }))).toBe('REQUEST_ID_REUSED');
  });

  test('goes on with a fork that has an id when its caller leaves, and undoes one that has none', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const gate = Promise.withResolvers<void>();
    host.whileCreating = (_id, signal) => Promise.race([gate.promise, untilAborted(signal)]);
    expect(await reasonOf(mesh.sandboxes.fork({ sandboxId: id, count: 2 }, inMs(400)))).toBe('DEADLINE_EXCEEDED');
    await eventually('nothing of it is left', () => host.vms.size === 1);
    const kept = mesh.sandboxes.fork({ sandboxId: id, count: 2, requestId }, inMs(400));
    expect(await reasonOf(kept)).toBe('DEADLINE_EXCEEDED');
    gate.resolve();
    const { sandboxes } = await mesh.sandboxes.fork({ sandboxId: id, count: 2, requestId }, soon());
    expect(sandboxes.map(({ state }) => state)).toEqual([SandboxState.RUNNING, SandboxState.RUNNING]);
    expect(host.vms.size).toBe(3);
  });

  test('undoes the whole fork when one child is destroyed while it is made', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.whileCreating = (_id, signal) => untilAborted(signal);
    const forked = reasonOf(mesh.sandboxes.fork({ sandboxId: id, count: 3 }, soon()));
    const { sandboxId } = await eventually('a child is being made', () => host.created[1]);
    await mesh.sandboxes.destroy({ sandboxId }, soon());
    expect(await forked).toBe('STATE_CONFLICT');
    expect([...host.vms.keys()]).toEqual([id]);
  });

  test('lets the source run on, with a word why, when the freeze fails, and leaves no child', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.whileFreezing = async () => {
      throw new WrennError('AGENT_UNREACHABLE', 'no answer');
    };
    expect(await reasonOf(mesh.sandboxes.fork({ sandboxId: id, count: 2 }, soon()))).toBe('AGENT_UNREACHABLE');
    expect(await mesh.get(id)).toMatchObject({ state: SandboxState.RUNNING, snapshotId: '' });
    await eventually('nothing is recorded of snapshots', async () => (await rows(mesh, 'snapshots')) === 0);
    host.whileFreezing = async () => {};
    await mesh.sandboxes.fork({ sandboxId: id, count: 2 }, soon());
    expect(host.vms.size).toBe(3);
  });

  test('freezes a source for one fork after the other, and for a pause after both', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1', { slotCount: 20 });
    const { id } = await mesh.create();
    let atOnce = 0;
    let most = 0;
    host.whileFreezing = async () => {
      most = Math.max(most, ++atOnce);
      await new Promise((resolve) => setImmediate(resolve));
      atOnce -= 1;
    };
    const forks = Array.from({ length: 4 }, () => mesh.sandboxes.fork({ sandboxId: id }, soon()));
    await eventually('one began', () => host.frozen.length > 0);
    await Promise.all([...forks, mesh.sandboxes.pause({ sandboxId: id }, soon()).catch(() => undefined)]);
    expect(most).toBe(1);
    expect((await mesh.sandboxes.list({ states: [SandboxState.RUNNING] }, soon())).sandboxes.length).toBeGreaterThan(3);
  });

  test('names what is wrong with a fork before it does anything', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id: sandboxId } = await mesh.create();
    const { id: over } = await mesh.create();
    await mesh.sandboxes.destroy({ sandboxId: over }, soon());
    const { sandboxes } = mesh;
    const reasons = await Promise.all(
      [
        sandboxes.fork({ sandboxId, count: 65 }, soon()),
        sandboxes.fork({ sandboxId, ttl: { seconds: 0n, nanos: 1 } }, soon()),
        sandboxes.fork({ sandboxId, env: { 'not a name': '' } }, soon()),
        sandboxes.fork({ sandboxId, requestId: 'no blanks' }, soon()),
        sandboxes.fork({ sandboxId: unknownId }, soon()),
        sandboxes.fork({ sandboxId: over }, soon()),
      ].map(reasonOf),
    );
    expect(reasons).toEqual([...Array(4).fill('INVALID_FIELD'), 'SANDBOX_NOT_FOUND', 'SANDBOX_NOT_RUNNING']);
    expect(host.frozen).toEqual([]);
  });

  test('ends every child of a fork that a scheduler left half-done, and keeps the source', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.whileCreating = (_id, signal) => untilAborted(signal);
    const forked = mesh.sandboxes.fork({ sandboxId: id, count: 2 }, soon()).catch((error: unknown) => error);
    await eventually('both are being made', () => host.created.length === 3);
    await mesh.stop();
    await forked;
    await mesh.start();
    await untilState(mesh, id, SandboxState.RUNNING);
    await eventually('only the source is left', () => host.vms.size === 1);
    await untilKept(host);
    const source = await mesh.get(id);
    expect([...host.snapshots.keys()]).toEqual([source.snapshotId]);
  });
});

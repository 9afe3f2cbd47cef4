// What nobody saw the end of: the scheduler dies, or its host does not answer, in the middle of a pause, a
// resume or a live snapshot.
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { VmState } from '@wrenn/proto/wrenn/vmruntime/v1/vmruntime';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';

import { type DatabaseServer, databaseServers, execute } from './support/database-servers.ts';
import { eventsOf, rows, untilKept, untilState } from './support/looks.ts';
import { type TestHost, untilAborted } from './support/test-host.ts';
import { type TestMesh, present, reasonOf, soon, startTestMesh } from './support/test-mesh.ts';

vi.setConfig({ testTimeout: 60_000 });

// Stops the scheduler while its host is at it, as a kill would leave things.
async function dieWhile(mesh: TestMesh, call: Promise<unknown>): Promise<void> {
  const ended = call.catch((error: unknown) => error);
  await mesh.stop();
  await ended;
}

const never = (_id: string, signal: AbortSignal) => untilAborted(signal);

async function untilReconciled(host: TestHost): Promise<void> {
  const before = host.listings();
  await eventually('the host was looked at three times', () => host.listings() >= before + 4);
}

describe.each(databaseServers)('on $name', ({ startServer }) => {
  let database: DatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('finds a sandbox running whose pause came to nothing when the scheduler died, and paused when it took', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const [runs, sleeps] = [await mesh.create(), await mesh.create()];
    host.whileFreezing = (id, signal) => (id === runs.id ? never(id, signal) : Promise.resolve());
    host.afterFreezing = never;
    const pauses = [runs, sleeps].map(({ id }) => mesh.sandboxes.pause({ sandboxId: id }, soon()));
    await eventually('one is frozen', () => host.snapshots.size === 1 && host.frozen.length === 2);
    await dieWhile(mesh, Promise.allSettled(pauses));
    host.whileFreezing = host.afterFreezing = async () => {};
    await mesh.start();
    await untilState(mesh, runs.id, SandboxState.RUNNING);
    await untilState(mesh, sleeps.id, SandboxState.PAUSED);
    expect((await eventsOf(mesh, sleeps.id)).slice(4)).toContain('paused SCHEDULER_RESTARTED');
    await mesh.inside.resolveSandbox({ sandboxId: runs.id }, soon());
    await eventually('it is durable', async () => (await mesh.get(sleeps.id)).isDurable);
    await mesh.sandboxes.resume({ sandboxId: sleeps.id }, soon());
    await mesh.sandboxes.pause({ sandboxId: runs.id }, soon());
  });

  test('pauses a sandbox that was frozen for a fork and did not go on, rather than lose it', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.afterFreezing = async () => {
      host.vms.delete(id);
      throw new WrennError('VMM_START_FAILED', 'it did not go on');
    };
    expect(await reasonOf(mesh.sandboxes.fork({ sandboxId: id }, soon()))).toBe('VMM_START_FAILED');
    const paused = await untilState(mesh, id, SandboxState.PAUSED);
    expect(paused.snapshotId).toBe(present(host.frozen[0]).snapshotId);
    host.afterFreezing = async () => {};
    await mesh.sandboxes.resume({ sandboxId: id }, soon());
    await mesh.sandboxes.fork({ sandboxId: id }, soon());
  });

  test('finds a pause that struck after all, long after it was given up', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.whileFreezing = async () => {
      throw new WrennError('SERVICE_UNAVAILABLE', 'the connection broke');
    };
    expect(await reasonOf(mesh.sandboxes.pause({ sandboxId: id }, soon()))).toBe('SERVICE_UNAVAILABLE');
    await untilState(mesh, id, SandboxState.RUNNING);
    // What it was to be frozen into is not forgotten meanwhile; a fork would be no good now.
    expect(await reasonOf(mesh.sandboxes.fork({ sandboxId: id }, soon()))).toBe('STATE_CONFLICT');
    const { snapshotId } = present(host.frozen[0]);
    host.snapshots.set(snapshotId, { sandboxId: id, parentId: '', isDurable: false });
    host.vms.delete(id);
    const paused = await untilState(mesh, id, SandboxState.PAUSED);
    expect(paused.snapshotId).toBe(snapshotId);
    host.whileFreezing = async () => {};
    await mesh.sandboxes.resume({ sandboxId: id }, soon());
  });

  test('freezes into the same snapshot when a pause is tried again that nobody knows the end of', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.whileFreezing = async () => {
      throw new WrennError('SERVICE_UNAVAILABLE', 'the connection broke');
    };
    await reasonOf(mesh.sandboxes.pause({ sandboxId: id }, soon()));
    await untilState(mesh, id, SandboxState.RUNNING);
    host.whileFreezing = async () => {};
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    expect(new Set(host.frozen.map(({ snapshotId }) => snapshotId)).size).toBe(1);
    await mesh.sandboxes.resume({ sandboxId: id }, soon());
    await mesh.sandboxes.fork({ sandboxId: id }, soon());
  });

  test('gives up a pause of which nothing came, and lets the sandbox be forked again', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.whileFreezing = async () => {
      throw new WrennError('SERVICE_UNAVAILABLE', 'the connection broke');
    };
    await reasonOf(mesh.sandboxes.pause({ sandboxId: id }, soon()));
    await untilState(mesh, id, SandboxState.RUNNING);
    host.whileFreezing = async () => {};
    await mesh.advance(140_000);
    await eventually('it is forgotten', async () => (await rows(mesh, 'snapshots')) === 0);
    await mesh.sandboxes.fork({ sandboxId: id }, soon());
  });

  test('finds a sandbox running whose resume nobody saw succeed, and paused where it came to nothing', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const [runs, sleeps, dies] = [await mesh.create(), await mesh.create(), await mesh.create()];
    for (const { id } of [runs, sleeps, dies]) await mesh.sandboxes.pause({ sandboxId: id }, soon());
    await mesh.stop();
    const ids = [runs, sleeps, dies].map(({ id }) => `'${id}'`).join();
    await execute(mesh.databaseUrl, `update sandboxes set state = 'resuming' where id in (${ids})`);
    host.vms.set(runs.id, { state: VmState.RUNNING, deathReason: '' });
    host.vms.set(dies.id, { state: VmState.DEAD, deathReason: 'GUEST_PANIC' });
    await mesh.start();
    await untilState(mesh, runs.id, SandboxState.RUNNING);
    for (const { id } of [sleeps, dies]) await untilState(mesh, id, SandboxState.PAUSED);
    expect(host.destroyed).toEqual([dies.id]);
    expect([...host.vms.keys()]).toEqual([runs.id]);
    for (const { id } of [sleeps, dies]) await mesh.sandboxes.resume({ sandboxId: id }, soon());
  });

  test('moves a sandbox to error whose VM and snapshot are both gone', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.whileFreezing = never;
    const pause = mesh.sandboxes.pause({ sandboxId: id }, soon());
    await untilState(mesh, id, SandboxState.PAUSING);
    await dieWhile(mesh, pause);
    host.vms.delete(id);
    await mesh.start();
    expect((await untilState(mesh, id, SandboxState.ERROR)).errorReason).toBe('VMM_LOST');
    await eventually('nothing is recorded of snapshots', async () => (await rows(mesh, 'snapshots')) === 0);
  });

  test('leaves a sandbox as it is while its host is at work on it, or does not answer', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.whileFreezing = never;
    const pause = mesh.sandboxes.pause({ sandboxId: id }, soon());
    await untilState(mesh, id, SandboxState.PAUSING);
    await dieWhile(mesh, pause);
    host.vms.set(id, { state: VmState.FREEZING, deathReason: '' });
    await mesh.start();
    await untilReconciled(host);
    expect((await mesh.get(id)).state).toBe(SandboxState.PAUSING);
    // Who asks for it meanwhile waits for the end of it.
    const joined = mesh.sandboxes.pause({ sandboxId: id }, soon());
    const { snapshotId } = present(host.frozen[0]);
    host.snapshots.set(snapshotId, { sandboxId: id, parentId: '', isDurable: true });
    host.vms.delete(id);
    expect((await joined).sandbox).toMatchObject({ state: SandboxState.PAUSED, snapshotId });
  });

  test('keeps what a running sandbox goes on from when the scheduler died in the middle of a live snapshot', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.afterFreezing = never;
    const forked = mesh.sandboxes.fork({ sandboxId: id, count: 2 }, soon());
    await eventually('it is frozen', () => host.snapshots.size === 1);
    await dieWhile(mesh, forked);
    host.afterFreezing = async () => {};
    await mesh.start();
    const adopted = await eventually('it is adopted', async () => {
      const sandbox = await mesh.get(id);
      return sandbox.snapshotId !== '' && sandbox;
    });
    expect(adopted).toMatchObject({ state: SandboxState.RUNNING, snapshotId: host.frozen[0]?.snapshotId });
    await untilKept(host);
    expect(host.snapshots.size).toBe(1);
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
  });

  test('keeps a sandbox, paused, that did not go on from its live snapshot', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.afterFreezing = async () => {
      host.vms.delete(id);
      throw new WrennError('SERVICE_UNAVAILABLE', 'the host broke down');
    };
    expect(await reasonOf(mesh.sandboxes.fork({ sandboxId: id }, soon()))).toBe('SERVICE_UNAVAILABLE');
    const paused = await untilState(mesh, id, SandboxState.PAUSED);
    expect(paused.snapshotId).toBe(host.frozen[0]?.snapshotId);
    host.afterFreezing = async () => {};
    await mesh.sandboxes.resume({ sandboxId: id }, soon());
  });

  test('asks again what became of a live snapshot before it does anything else', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.afterFreezing = async () => {
      throw new WrennError('SERVICE_UNAVAILABLE', 'the connection broke');
    };
    await reasonOf(mesh.sandboxes.fork({ sandboxId: id }, soon()));
    const pause = await mesh.sandboxes.pause({ sandboxId: id }, soon()).catch((error: unknown) => error);
    host.afterFreezing = async () => {};
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    expect(pause).toBeDefined();
    const { snapshotId } = await mesh.get(id);
    expect(host.snapshots.get(snapshotId)?.parentId).toBe(host.frozen[0]?.snapshotId);
    await mesh.sandboxes.resume({ sandboxId: id }, soon());
  });

  test('keeps paused sandboxes through an outage and a power cut, once their snapshots are durable', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.sandboxes.pause({ sandboxId: id, waitDurable: true }, soon());
    host.losePower();
    await untilReconciled(host);
    await mesh.stop();
    await mesh.start();
    await untilReconciled(host);
    await untilKept(host);
    expect((await mesh.get(id)).state).toBe(SandboxState.PAUSED);
    await mesh.sandboxes.resume({ sandboxId: id }, soon());
  });

  test('falls back to the last durable generation when a power cut takes the newest, and says so', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const [twice, once] = [await mesh.create(), await mesh.create()];
    await mesh.sandboxes.pause({ sandboxId: twice.id, waitDurable: true }, soon());
    const durable = await mesh.get(twice.id);
    await mesh.sandboxes.resume({ sandboxId: twice.id }, soon());
    host.whileCommitting = never;
    for (const { id } of [twice, once]) await mesh.sandboxes.pause({ sandboxId: id }, soon());
    host.losePower();
    const lost = await untilState(mesh, once.id, SandboxState.ERROR);
    expect(lost.errorReason).toBe('SNAPSHOT_LOST');
    await eventually('it stands on the older one', async () => {
      return (await mesh.get(twice.id)).snapshotId === durable.snapshotId;
    });
    expect((await eventsOf(mesh, twice.id)).at(-1)).toBe('paused SNAPSHOT_LOST');
    expect(await mesh.get(twice.id)).toMatchObject({ state: SandboxState.PAUSED, isDurable: true });
    await mesh.sandboxes.resume({ sandboxId: twice.id }, soon());
  });

  test('hears that a snapshot is durable across a restart, and after commits that failed', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.whileCommitting = never;
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    await mesh.stop();
    await mesh.start();
    expect((await mesh.get(id)).isDurable).toBe(false);
    host.whileCommitting = async () => {};
    await mesh.stop();
    await mesh.start();
    await eventually('it is durable', async () => (await mesh.get(id)).isDurable);
    expect((await eventsOf(mesh, id)).filter((event) => event === 'paused SNAPSHOT_DURABLE')).toHaveLength(1);
  });

  test('removes the VM of a paused sandbox, and none of one that is being resumed', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    host.vms.set(id, { state: VmState.RUNNING, deathReason: '' });
    await eventually('it is removed', () => host.vms.size === 0);
    expect((await mesh.get(id)).state).toBe(SandboxState.PAUSED);
    const gate = Promise.withResolvers<void>();
    host.whileCreating = () => gate.promise;
    const resume = mesh.sandboxes.resume({ sandboxId: id }, soon());
    await untilState(mesh, id, SandboxState.RESUMING);
    await untilReconciled(host);
    gate.resolve();
    expect((await resume).sandbox?.state).toBe(SandboxState.RUNNING);
    expect(host.destroyed).toEqual([id]);
  });

  test('leaves a resume in the hands of the reconciler when the host stops answering, and answers its caller', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    host.whileCreating = async () => {
      throw new WrennError('SERVICE_UNAVAILABLE', 'the connection broke');
    };
    host.whileDestroying = async () => {
      throw new WrennError('SERVICE_UNAVAILABLE', 'still broken');
    };
    expect(await reasonOf(mesh.sandboxes.resume({ sandboxId: id }, inMs(5000)))).toBe('SERVICE_UNAVAILABLE');
    await untilState(mesh, id, SandboxState.PAUSED);
    host.whileCreating = host.whileDestroying = async () => {};
    await mesh.sandboxes.resume({ sandboxId: id }, soon());
  });
});

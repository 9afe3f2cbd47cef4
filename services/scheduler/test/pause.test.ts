import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState, TimeoutAction } from '@wrenn/proto/wrenn/v1/sandbox';
import { VmState } from '@wrenn/proto/wrenn/vmruntime/v1/vmruntime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type DatabaseServer, databaseServers } from './support/database-servers.ts';
import { untilAborted } from './support/test-host.ts';
import { eventsOf, rows, untilState } from './support/looks.ts';
import { MiB, present, reasonOf, soon, startTestMesh, unknownId } from './support/test-mesh.ts';

describe.each(databaseServers)('on $name', ({ startServer }) => {
  let database: DatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('pauses and resumes a sandbox, which keeps its id, environment and user, and tells each step', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    await mesh.putTemplate('app', { defaultUser: 'ada' });
    const made = await mesh.create({ template: 'app', env: { TOKEN: 'x=y' }, ttl: { seconds: 600n } });
    const gate = Promise.withResolvers<void>();
    host.whileCommitting = () => gate.promise;

    const pause = await mesh.sandboxes.pause({ sandboxId: made.id }, soon());
    const paused = present(pause.sandbox);
    expect(paused).toMatchObject({ state: SandboxState.PAUSED, hostId: 'h1', isDurable: false });
    expect(paused.snapshotId).toMatch(/^sn-[0-9a-z]{25}$/);
    expect(pause.timings.map(({ stage }) => stage)).toEqual(['claim', 'freeze', 'record']);
    expect(host.vms.size).toBe(0);
    expect(host.frozen).toMatchObject([{ sandboxId: made.id, keepRunning: false, waitDurable: false }]);
    gate.resolve();
    await eventually('it is durable', async () => (await mesh.get(made.id)).isDurable);

    const resume = await mesh.sandboxes.resume({ sandboxId: made.id }, soon());
    expect(resume.sandbox).toMatchObject({ id: made.id, state: SandboxState.RUNNING, isDurable: false });
    expect(resume.timings.map(({ stage }) => stage)).toEqual(['place', 'boot', 'record']);
    expect(host.created[1]).toMatchObject({
      sandboxId: made.id,
      snapshotId: paused.snapshotId,
      template: 'app',
      image: '',
      vcpuCount: 0,
      memoryBytes: 0n,
      diskBytes: 0n,
      env: { TOKEN: 'x=y' },
      defaultUser: 'ada',
    });
    const endsIn = Number(present(resume.sandbox).expiresAt?.seconds) - Date.now() / 1000;
    expect(endsIn).toBeGreaterThan(590);
    expect(await eventsOf(mesh, made.id)).toEqual([
      'pending REQUESTED',
      'starting PLACED',
      'running AGENT_READY',
      'pausing REQUESTED',
      'paused FROZEN',
      'paused SNAPSHOT_DURABLE',
      'resuming REQUESTED',
      'running AGENT_READY',
    ]);
  });

  test('takes a pause of a paused one and a resume of a running one for done', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const running = await mesh.sandboxes.resume({ sandboxId: id }, soon());
    expect(running).toMatchObject({ sandbox: { state: SandboxState.RUNNING }, timings: [] });
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    const again = await mesh.sandboxes.pause({ sandboxId: id }, soon());
    expect(again).toMatchObject({ sandbox: { state: SandboxState.PAUSED }, timings: [] });
    expect(host.frozen).toHaveLength(1);
    const later = await mesh.sandboxes.resume({ sandboxId: id, ttl: { seconds: 7200n } }, soon());
    expect(later.sandbox?.ttl?.seconds).toBe(7200n);
  });

  test('gives all who pause or resume at once the same result, after one pause and one resume', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const pauses = await Promise.all(Array.from({ length: 8 }, () => mesh.sandboxes.pause({ sandboxId: id }, soon())));
    expect(pauses.every(({ sandbox }) => sandbox?.state === SandboxState.PAUSED)).toBe(true);
    expect(host.frozen).toHaveLength(1);
    const resumes = await Promise.all(
      Array.from({ length: 8 }, () => mesh.sandboxes.resume({ sandboxId: id }, soon())),
    );
    expect(resumes.every(({ sandbox }) => sandbox?.state === SandboxState.RUNNING)).toBe(true);
    expect(host.created).toHaveLength(2);
  });

  test('says that another operation was first: a resume while pausing, a pause while resuming', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const [freezing, creating] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    host.whileFreezing = () => freezing.promise;
    const pause = mesh.sandboxes.pause({ sandboxId: id }, soon());
    await untilState(mesh, id, SandboxState.PAUSING);
    expect(await reasonOf(mesh.sandboxes.resume({ sandboxId: id }, soon()))).toBe('STATE_CONFLICT');
    expect(await reasonOf(mesh.sandboxes.fork({ sandboxId: id }, soon()))).toBe('STATE_CONFLICT');
    freezing.resolve();
    await pause;
    host.whileCreating = () => creating.promise;
    const resume = mesh.sandboxes.resume({ sandboxId: id }, soon());
    await untilState(mesh, id, SandboxState.RESUMING);
    expect(await reasonOf(mesh.sandboxes.pause({ sandboxId: id }, soon()))).toBe('STATE_CONFLICT');
    creating.resolve();
    await resume;
  });

  test('refuses to pause or resume what is unknown, over or in error, and to keep a paused one alive', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    expect(await reasonOf(mesh.sandboxes.ping({ sandboxId: id }, soon()))).toBe('SANDBOX_NOT_RUNNING');
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    const failed = await mesh.create();
    host.vms.set(failed.id, { state: VmState.DEAD, deathReason: 'GUEST_PANIC' });
    await untilState(mesh, failed.id, SandboxState.ERROR);
    for (const sandboxId of [id, failed.id]) {
      expect(await reasonOf(mesh.sandboxes.pause({ sandboxId }, soon()))).toBe('SANDBOX_NOT_RUNNING');
      expect(await reasonOf(mesh.sandboxes.resume({ sandboxId }, soon()))).toBe('SANDBOX_NOT_RUNNING');
    }
    expect(await reasonOf(mesh.sandboxes.pause({ sandboxId: unknownId }, soon()))).toBe('SANDBOX_NOT_FOUND');
    expect(await reasonOf(mesh.sandboxes.resume({ sandboxId: unknownId }, soon()))).toBe('SANDBOX_NOT_FOUND');
    expect(await reasonOf(mesh.sandboxes.pause({ sandboxId: 'x' }, soon()))).toBe('INVALID_FIELD');
  });

  test('lets a sandbox run on whose pause fails before its VM is gone, and pauses it the next time', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.whileFreezing = async () => {
      throw new WrennError('AGENT_UNREACHABLE', 'the guest does not answer');
    };
    expect(await reasonOf(mesh.sandboxes.pause({ sandboxId: id }, soon()))).toBe('AGENT_UNREACHABLE');
    expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
    expect((await eventsOf(mesh, id)).at(-1)).toBe('running AGENT_UNREACHABLE');
    await mesh.inside.resolveSandbox({ sandboxId: id }, soon());
    host.whileFreezing = async () => {};
    expect((await mesh.sandboxes.pause({ sandboxId: id }, soon())).sandbox?.state).toBe(SandboxState.PAUSED);
  });

  test('takes a pause for done whose answer was lost, and says so to its caller', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.afterFreezing = async () => {
      throw new WrennError('SERVICE_UNAVAILABLE', 'the connection broke');
    };
    const { sandbox } = await mesh.sandboxes.pause({ sandboxId: id }, soon());
    expect(sandbox?.state).toBe(SandboxState.PAUSED);
    expect((await mesh.sandboxes.resume({ sandboxId: id }, soon())).sandbox?.state).toBe(SandboxState.RUNNING);
  });

  test('goes on with a pause and a resume whose callers left', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const [freezing, creating] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    host.whileFreezing = () => freezing.promise;
    expect(await reasonOf(mesh.sandboxes.pause({ sandboxId: id }, inMs(300)))).toBe('DEADLINE_EXCEEDED');
    freezing.resolve();
    await untilState(mesh, id, SandboxState.PAUSED);
    host.whileCreating = () => creating.promise;
    const signal = AbortSignal.timeout(300);
    expect(await reasonOf(mesh.sandboxes.resume({ sandboxId: id }, { ...soon(), signal }))).toBe('CANCELLED');
    creating.resolve();
    await untilState(mesh, id, SandboxState.RUNNING);
  });

  test('keeps a sandbox paused, and its host empty, when a resume fails, and tells all who wait why', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const { sandbox } = await mesh.sandboxes.pause({ sandboxId: id, waitDurable: true }, soon());
    host.whileCreating = async () => {
      throw new WrennError('GUEST_NOT_READY', 'no answer');
    };
    const resumes = Array.from({ length: 3 }, () => reasonOf(mesh.sandboxes.resume({ sandboxId: id }, soon())));
    expect(await Promise.all(resumes)).toEqual(Array(3).fill('GUEST_NOT_READY'));
    expect(await mesh.get(id)).toMatchObject({ state: SandboxState.PAUSED, snapshotId: sandbox?.snapshotId });
    expect([host.vms.size, host.destroyed]).toEqual([0, [id]]);
    host.whileCreating = async () => {};
    const snapshot = present(host.snapshots.get(present(sandbox).snapshotId));
    snapshot.problem = 'memfile of generation 0 is damaged';
    expect(await reasonOf(mesh.sandboxes.resume({ sandboxId: id }, soon()))).toBe('SNAPSHOT_CORRUPT');
    delete snapshot.problem;
    await mesh.sandboxes.resume({ sandboxId: id }, soon());
  });

  test('says that data is lost when a host does not have the snapshot any more, and keeps the sandbox paused', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.sandboxes.pause({ sandboxId: id, waitDurable: true }, soon());
    const files = new Map(host.snapshots);
    host.snapshots.clear();
    expect(await reasonOf(mesh.sandboxes.resume({ sandboxId: id }, soon()))).toBe('SNAPSHOT_CORRUPT');
    const before = host.snapshotListings();
    await eventually('the host was compared three times', () => host.snapshotListings() > before + 3);
    expect((await mesh.get(id)).state).toBe(SandboxState.PAUSED);
    for (const [snapshotId, snapshot] of files) host.snapshots.set(snapshotId, snapshot);
    expect((await mesh.sandboxes.resume({ sandboxId: id }, soon())).sandbox?.state).toBe(SandboxState.RUNNING);
  });

  test('lets destroy win over a pause and a resume in progress, and nothing is left', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id: first } = await mesh.create();
    host.whileFreezing = (_id, signal) => untilAborted(signal);
    const pause = reasonOf(mesh.sandboxes.pause({ sandboxId: first }, soon()));
    await untilState(mesh, first, SandboxState.PAUSING);
    const destroyed = await mesh.sandboxes.destroy({ sandboxId: first }, soon());
    expect(destroyed.sandbox?.state).toBe(SandboxState.DESTROYED);
    expect(await pause).toBe('STATE_CONFLICT');
    host.whileFreezing = async () => {};

    const { id: second } = await mesh.create();
    await mesh.sandboxes.pause({ sandboxId: second }, soon());
    host.whileCreating = (_id, signal) => untilAborted(signal);
    const resume = reasonOf(mesh.sandboxes.resume({ sandboxId: second }, soon()));
    await untilState(mesh, second, SandboxState.RESUMING);
    await mesh.sandboxes.destroy({ sandboxId: second }, soon());
    expect(await resume).toBe('STATE_CONFLICT');
    expect([host.vms.size, host.snapshots.size]).toEqual([0, 0]);
    await eventually('nothing is recorded of snapshots', async () => (await rows(mesh, 'snapshots')) === 0);
  });

  test('deletes the files and the variables of a destroyed paused sandbox before it says so', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const { sandbox } = await mesh.sandboxes.pause({ sandboxId: id, waitDurable: true }, soon());
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    expect(host.deleted).toEqual([sandbox?.snapshotId]);
    expect(await rows(mesh, 'sandbox_environments')).toBe(0);
    expect(await mesh.get(id)).toMatchObject({ state: SandboxState.DESTROYED, snapshotId: '', isDurable: false });
  });

  test('answers a pause that waits only once it is durable, and says when the disk is full', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.whileCommitting = async () => {
      throw new WrennError('DISK_FULL', 'no space');
    };
    expect(await reasonOf(mesh.sandboxes.pause({ sandboxId: id, waitDurable: true }, soon()))).toBe('DISK_FULL');
    expect(await mesh.get(id)).toMatchObject({ state: SandboxState.PAUSED, isDurable: false });
    const gate = Promise.withResolvers<void>();
    host.whileCommitting = () => gate.promise;
    const waiting = mesh.sandboxes.pause({ sandboxId: id, waitDurable: true }, soon());
    gate.resolve();
    expect((await waiting).sandbox).toMatchObject({ state: SandboxState.PAUSED, isDurable: true });
  });

  test('gives room and quota back with a pause, but not the disk, and asks for them anew to resume', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1', { slotCount: 2, memoryBytes: 1024n * MiB, diskBytes: 3072n * MiB });
    const quota = { project: 'default', sandboxCount: 4, vcpuCount: 2, memoryBytes: 1024n * MiB, diskBytes: 0n };
    await mesh.inside.putQuota({ quota }, soon());
    const [first, second] = [await mesh.create(), await mesh.create()];
    await mesh.sandboxes.pause({ sandboxId: first.id }, soon());
    const [host] = (await mesh.hosts.list({}, soon())).hosts;
    expect(host).toMatchObject({ sandboxCount: 1, placedMemoryBytes: 512n * MiB, placedVcpuCount: 1 });
    expect(host?.placedDiskBytes).toBe(2048n * MiB);
    const third = await mesh.create();
    const overQuota = await mesh.sandboxes.resume({ sandboxId: first.id }, soon()).catch((error: unknown) => error);
    expect(overQuota).toMatchObject({ reason: 'QUOTA_EXCEEDED', meta: { resource: 'vcpu_count' } });
    await mesh.inside.putQuota({ quota: { ...quota, vcpuCount: 0, memoryBytes: 0n } }, soon());
    const full = await mesh.sandboxes.resume({ sandboxId: first.id }, soon()).catch((error: unknown) => error);
    expect(full).toMatchObject({ reason: 'NO_HOST_LEFT', meta: { ran_out: 'slot_count,memory_bytes' } });
    expect((await mesh.get(first.id)).state).toBe(SandboxState.PAUSED);
    expect(await reasonOf(mesh.create())).toBe('NO_HOST_LEFT');
    await mesh.sandboxes.pause({ sandboxId: third.id }, soon());
    expect(await reasonOf(mesh.create())).toBe('NO_HOST_LEFT');
    await mesh.sandboxes.resume({ sandboxId: first.id }, soon());
    expect((await mesh.get(second.id)).state).toBe(SandboxState.RUNNING);
  });

  test('wakes a create that waits for room when a sandbox is paused', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1', { slotCount: 1 });
    const { id } = await mesh.create();
    const waiting = mesh.create({ queueTimeout: { seconds: 30n } });
    await eventually('it waits', async () => {
      const refusal = await mesh.create().catch((error: unknown) => error);
      return refusal instanceof WrennError && refusal.meta['waiting'] === '1';
    });
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    expect((await waiting).state).toBe(SandboxState.RUNNING);
  });

  test('refuses to resume on a host that is silent, and lists what is paused among what lives', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    mesh.advanceInSilence(16_000);
    expect(await reasonOf(mesh.sandboxes.resume({ sandboxId: id }, soon()))).toBe('NO_HOST_LEFT');
    expect((await mesh.sandboxes.list({}, soon())).sandboxes.map((each) => each.id)).toEqual([id]);
    const { sandboxes } = await mesh.sandboxes.list({ states: [SandboxState.PAUSED] }, soon());
    expect(sandboxes.map((each) => each.id)).toEqual([id]);
  });

  test('pauses a sandbox that wants it when its time is up, and one that was pinged later', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const wanted = { ttl: { seconds: 60n }, onTimeout: TimeoutAction.PAUSE } as const;
    const [kept, used] = [await mesh.create(wanted), await mesh.create(wanted)];
    expect(kept.onTimeout).toBe(TimeoutAction.PAUSE);
    await mesh.advance(50_000);
    await mesh.sandboxes.ping({ sandboxId: used.id }, soon());
    await mesh.advance(20_000);
    await untilState(mesh, kept.id, SandboxState.PAUSED);
    expect((await mesh.get(used.id)).state).toBe(SandboxState.RUNNING);
    expect((await eventsOf(mesh, kept.id)).slice(-3)).toContain('pausing TTL_EXPIRED');
    await mesh.advance(1_000_000);
    await untilState(mesh, used.id, SandboxState.PAUSED);
    // A paused one has all the time in the world.
    expect((await mesh.get(kept.id)).state).toBe(SandboxState.PAUSED);
    expect(host.destroyed).toEqual([]);
  });

  test('resumes a paused sandbox for whoever needs it running, once for all who come at once', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const [asleep, fixed] = [await mesh.create({ autoResume: true }), await mesh.create()];
    for (const sandboxId of [asleep.id, fixed.id]) await mesh.sandboxes.pause({ sandboxId }, soon());
    const gate = Promise.withResolvers<void>();
    host.whileCreating = () => gate.promise;
    const hurried = reasonOf(mesh.inside.resolveSandbox({ sandboxId: asleep.id }, inMs(400)));
    const patient = Array.from({ length: 6 }, () => mesh.inside.resolveSandbox({ sandboxId: asleep.id }, soon()));
    let hasHeader = false;
    const onHeader = () => {
      hasHeader = true;
    };
    const told = mesh.inside.resolveSandbox({ sandboxId: asleep.id }, { ...soon(), onHeader });
    await eventually('it says that it takes its time', () => hasHeader);
    expect(await hurried).toBe('DEADLINE_EXCEEDED');
    gate.resolve();
    for (const found of await Promise.all([...patient, told])) expect(found.guestAddress).toBe('10.11.0.1');
    expect(host.created).toHaveLength(3);
    expect(await eventsOf(mesh, asleep.id)).toContain('resuming AUTO_RESUMED');
    const refusal = await mesh.inside.resolveSandbox({ sandboxId: fixed.id }, soon()).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ reason: 'SANDBOX_NOT_RUNNING', meta: { state: 'paused' } });
    expect(String(refusal)).toMatch(/resume it/);
  });

  test('wakes a sandbox that is being paused once it is paused, and tells why it cannot', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create({ autoResume: true });
    const gate = Promise.withResolvers<void>();
    host.whileFreezing = () => gate.promise;
    const pause = mesh.sandboxes.pause({ sandboxId: id }, soon());
    await untilState(mesh, id, SandboxState.PAUSING);
    const resolved = mesh.inside.resolveSandbox({ sandboxId: id }, soon());
    gate.resolve();
    await pause;
    expect((await resolved).hostAddress).toBe(host.address);
    expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    host.whileCreating = async () => {
      throw new WrennError('SNAPSHOT_INCOMPATIBLE', 'another kernel');
    };
    expect(await reasonOf(mesh.inside.resolveSandbox({ sandboxId: id }, soon()))).toBe('SNAPSHOT_INCOMPATIBLE');
  });
});

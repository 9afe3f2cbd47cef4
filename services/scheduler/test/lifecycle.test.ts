import { eventually } from '@wrenn/kit/testkit/eventually';
import { WrennError } from '@wrenn/kit/errors';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type DatabaseServer, databaseServers } from './support/database-servers.ts';
import { untilAborted } from './support/test-host.ts';
import { MiB, present, reasonOf, soon, startTestMesh, unknownId } from './support/test-mesh.ts';

describe.each(databaseServers)('on $name', ({ startServer }) => {
  let database: DatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('creates on a host, resolves, lists and destroys, and the host holds nothing afterwards', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const answer = await mesh.sandboxes.create(
      { template: 'debian', vcpuCount: 2, env: { A: 'b' }, metadata: { who: 'Zoë' }, ttl: { seconds: 60n } },
      soon(),
    );
    const sandbox = present(answer.sandbox);
    expect(sandbox).toMatchObject({
      state: SandboxState.RUNNING,
      hostId: 'h1',
      vcpuCount: 2,
      memoryBytes: 512n * MiB,
      diskBytes: 1024n * MiB,
      metadata: { who: 'Zoë' },
      ttl: { seconds: 60n },
      errorReason: '',
    });
    expect(answer.timings.map(({ stage }) => stage)).toEqual(['queue', 'place', 'boot']);
    expect(host.created[0]).toMatchObject({
      sandboxId: sandbox.id,
      template: 'debian',
      image: 'debian',
      vcpuCount: 2,
      env: { A: 'b' },
    });
    expect(await mesh.get(sandbox.id)).toEqual(sandbox);
    expect((await mesh.sandboxes.list({}, soon())).sandboxes).toEqual([sandbox]);
    expect(await mesh.inside.resolveSandbox({ sandboxId: sandbox.id }, soon())).toMatchObject({
      hostId: 'h1',
      hostAddress: host.address,
      guestAddress: '10.11.0.1',
    });
    expect((await mesh.hosts.list({}, soon())).hosts[0]).toMatchObject({
      id: 'h1',
      isAlive: true,
      sandboxCount: 1,
      placedMemoryBytes: 512n * MiB,
    });

    const destroyed = present((await mesh.sandboxes.destroy({ sandboxId: sandbox.id }, soon())).sandbox);
    expect(destroyed.state).toBe(SandboxState.DESTROYED);
    expect(host.vms.size).toBe(0);
    expect((await mesh.sandboxes.list({}, soon())).sandboxes).toEqual([]);
    const gone = await mesh.sandboxes.list({ states: [SandboxState.DESTROYED] }, soon());
    expect(gone.sandboxes).toEqual([destroyed]);
    expect(await reasonOf(mesh.inside.resolveSandbox({ sandboxId: sandbox.id }, soon()))).toBe('SANDBOX_NOT_RUNNING');
    expect((await mesh.hosts.list({}, soon())).hosts[0]?.sandboxCount).toBe(0);
  });

  test('names what is wrong with a request before it does anything', async () => {
    await using mesh = await startTestMesh(database);
    const { sandboxes, inside } = mesh;
    const sandboxId = unknownId;
    const reasons = await Promise.all(
      [
        sandboxes.create({ template: 'nothing' }, soon()),
        sandboxes.create({ template: 'debian', vcpuCount: 99 }, soon()),
        sandboxes.create({ template: 'debian' }, soon()),
        sandboxes.get({ sandboxId: 'cl-1' }, soon()),
        sandboxes.get({ sandboxId }, soon()),
        sandboxes.destroy({ sandboxId }, soon()),
        sandboxes.ping({ sandboxId }, soon()),
        sandboxes.setTimeout({ sandboxId }, soon()),
        sandboxes.setTimeout({ sandboxId, ttl: { seconds: 60n } }, soon()),
        sandboxes.list({ pageToken: 'x' }, soon()),
        sandboxes.list({ states: [SandboxState.UNSPECIFIED] }, soon()),
        inside.resolveSandbox({ sandboxId }, soon()),
        inside.putTemplate({}, soon()),
        inside.reportHost({ hostId: 'H' }, soon()),
      ].map(reasonOf),
    );
    expect(reasons).toEqual([
      'TEMPLATE_NOT_FOUND',
      'INVALID_FIELD',
      'NO_HOST_LEFT',
      'INVALID_FIELD',
      'SANDBOX_NOT_FOUND',
      'SANDBOX_NOT_FOUND',
      'SANDBOX_NOT_FOUND',
      'INVALID_FIELD',
      'SANDBOX_NOT_FOUND',
      'INVALID_FIELD',
      'INVALID_FIELD',
      'SANDBOX_NOT_FOUND',
      'INVALID_FIELD',
      'INVALID_FIELD',
    ]);
    const all = [SandboxState.ERROR, SandboxState.DESTROYED, SandboxState.PENDING, SandboxState.STARTING];
    expect((await sandboxes.list({ states: all }, soon())).sandboxes).toEqual([]);
  });

  test('never overfills hosts, however many creates come at once, and spreads them', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1', { slotCount: 3 });
    await mesh.addHost('h2', { memoryBytes: 1536n * MiB });
    const results = await Promise.allSettled(Array.from({ length: 12 }, () => mesh.create()));
    const refused = results.filter((result) => result.status === 'rejected').map(({ reason }) => reason);
    expect(refused).toHaveLength(6);
    for (const error of refused) {
      expect(error).toBeInstanceOf(WrennError);
      expect(error).toMatchObject({ reason: 'NO_HOST_LEFT' });
      expect(String(error)).toMatch(/h1 has all of its 3 slots in use; h2 has 0 MiB of memory left, 512 are needed/);
    }
    const { hosts } = await mesh.hosts.list({}, soon());
    expect(hosts.map(({ sandboxCount }) => sandboxCount)).toEqual([3, 3]);
  });

  test('places nothing on a host that was silent for more than 15 s', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    mesh.advanceInSilence(16_000);
    expect(await reasonOf(mesh.create())).toBe('NO_HOST_LEFT');
    expect((await mesh.hosts.list({}, soon())).hosts[0]?.isAlive).toBe(false);
    await mesh.advance(0);
    await mesh.create();
  });

  test('passes on why the host failed, keeps it in the record and asks the host to clean up', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    host.whileCreating = async () => {
      throw new WrennError('GUEST_NOT_READY', 'the guest did not answer');
    };
    expect(await reasonOf(mesh.create())).toBe('GUEST_NOT_READY');
    const { sandboxes } = await mesh.sandboxes.list({ states: [SandboxState.ERROR] }, soon());
    expect(sandboxes).toMatchObject([{ errorReason: 'GUEST_NOT_READY', errorMessage: 'the guest did not answer' }]);
    expect(host.destroyed).toContain(sandboxes[0]?.id);
  });

  test.each([
    ['leaves', 'CANCELLED', () => AbortSignal.timeout(2000), 10_000],
    ['had no more time', 'DEADLINE_EXCEEDED', () => undefined, 2000],
  ])('undoes a create whose caller %s', async (_what, reason, signalOf, limitMs) => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    host.whileCreating = (_id, signal) => untilAborted(signal);
    const signal = signalOf();
    const call = mesh.sandboxes.create(
      { template: 'debian' },
      { deadlineAtMs: Date.now() + limitMs, ...(signal && { signal }) },
    );
    expect(await reasonOf(call)).toBe(reason);
    const sandbox = await eventually('the record says so', async () => {
      const { sandboxes } = await mesh.sandboxes.list({ states: [SandboxState.ERROR] }, soon());
      return sandboxes[0];
    });
    expect(sandbox.errorReason).toBe(reason);
    expect(host.destroyed).toContain(sandbox.id);
    expect(host.vms.size).toBe(0);
  });

  test('answers every one of many racing destroys with success after one release', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const gate = Promise.withResolvers<void>();
    host.whileDestroying = () => gate.promise;
    const racing = Array.from({ length: 8 }, () => mesh.sandboxes.destroy({ sandboxId: id }, soon()));
    await eventually('one reached the host', () => host.destroyed.length > 0);
    gate.resolve();
    for (const { sandbox } of await Promise.all(racing)) expect(sandbox?.state).toBe(SandboxState.DESTROYED);
    expect(host.destroyed).toEqual([id]);
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    expect(host.destroyed).toEqual([id]);
  });

  test('interrupts a create in progress when its sandbox is destroyed', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    host.whileCreating = (_id, signal) => untilAborted(signal);
    const created = reasonOf(mesh.create());
    const { sandboxId } = await eventually('the host is making it', () => host.created[0]);
    const { sandbox } = await mesh.sandboxes.destroy({ sandboxId }, soon());
    expect(sandbox?.state).toBe(SandboxState.DESTROYED);
    expect(await created).toBe('STATE_CONFLICT');
    expect(host.vms.size).toBe(0);
    expect((await mesh.get(sandboxId)).state).toBe(SandboxState.DESTROYED);
  });

  test('goes on with a destroy whose caller left', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const gate = Promise.withResolvers<void>();
    host.whileDestroying = () => gate.promise;
    const left = mesh.sandboxes.destroy({ sandboxId: id }, { ...soon(), signal: AbortSignal.timeout(200) });
    expect(await reasonOf(left)).toBe('CANCELLED');
    expect((await mesh.get(id)).state).toBe(SandboxState.DESTROYING);
    gate.resolve();
    await eventually('destroyed', async () => (await mesh.get(id)).state === SandboxState.DESTROYED);
  });

  test('lets a sandbox in error be destroyed', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    host.whileCreating = async () => {
      throw new WrennError('VMM_START_FAILED', 'no');
    };
    await reasonOf(mesh.create());
    const { sandboxes } = await mesh.sandboxes.list({ states: [SandboxState.ERROR] }, soon());
    const { sandbox } = await mesh.sandboxes.destroy({ sandboxId: present(sandboxes[0]).id }, soon());
    expect(sandbox).toMatchObject({ state: SandboxState.DESTROYED, errorReason: '', errorMessage: '' });
  });

  test('sets the timeout both ways, and pings never shorten it', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create({ ttl: { seconds: 100n } });
    const endsIn = async () => Number((await mesh.get(id)).expiresAt?.seconds ?? 0n) - Date.now() / 1000;
    const setTimeout = (seconds: bigint) => mesh.sandboxes.setTimeout({ sandboxId: id, ttl: { seconds } }, soon());

    await setTimeout(1000n);
    expect(await endsIn()).toBeGreaterThan(900);
    await setTimeout(50n);
    expect(await endsIn()).toBeLessThan(60);
    expect((await mesh.get(id)).ttl?.seconds).toBe(50n);

    await setTimeout(1000n);
    await setTimeout(30n);
    const before = await mesh.get(id);
    await mesh.advance(10_000);
    const pinged = await mesh.sandboxes.ping({ sandboxId: id }, soon());
    expect(pinged.expiresAt?.seconds).toBeGreaterThanOrEqual((before.expiresAt?.seconds ?? 0n) + 9n);
    const longer = await mesh.create({ ttl: { seconds: 100n } });
    const long = await mesh.sandboxes.setTimeout({ sandboxId: longer.id, ttl: { seconds: 100n } }, soon());
    mesh.advanceInSilence(-5000);
    const unchanged = await mesh.sandboxes.ping({ sandboxId: longer.id }, soon());
    expect(unchanged.expiresAt).toEqual(long.sandbox?.expiresAt);
    expect((await mesh.get(id)).version).toBeGreaterThan(before.version);
  });

  test('pages through sandboxes, newest first, each once', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1', { slotCount: 10 });
    const ids: string[] = [];
    for (let i = 0; i < 7; i++) {
      ids.unshift((await mesh.create()).id);
      mesh.advanceInSilence(10);
    }
    const seen: string[] = [];
    let pageToken = '';
    do {
      const page = await mesh.sandboxes.list({ pageSize: 3, pageToken }, soon());
      seen.push(...page.sandboxes.map(({ id }) => id));
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    expect(seen).toEqual(ids);
    expect((await mesh.sandboxes.list({ states: [SandboxState.PAUSED] }, soon())).sandboxes).toEqual([]);
  });

  test('replaces a template of the same name and lists them by name', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.putTemplate('alpine');
    const template = { name: 'debian', image: 'debian-2', vcpuCount: 4, memoryBytes: 128n * MiB, diskBytes: MiB };
    await mesh.inside.putTemplate({ template: { ...template, description: 'd', defaultUser: 'user' } }, soon());
    const { templates } = await mesh.inside.listTemplates({}, soon());
    expect(templates.map(({ name }) => name)).toEqual(['alpine', 'debian']);
    expect(templates[1]).toMatchObject({ ...template, description: 'd', defaultUser: 'user' });
  });
});

import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type DatabaseServer, databaseServers, execute } from './support/database-servers.ts';
import { type TestHost, untilAborted } from './support/test-host.ts';
import { type TestMesh, reasonOf, soon, startTestMesh } from './support/test-mesh.ts';

const requestId = 'order_66-a';
const records = async (mesh: TestMesh) => (await execute(mesh.databaseUrl, 'select id, state from sandboxes')).length;

// Holds every create on a host until it is let go.
function held(host: TestHost): () => void {
  const gate = Promise.withResolvers<void>();
  host.whileCreating = (_id, signal) => Promise.race([gate.promise, untilAborted(signal)]);
  return () => gate.resolve();
}

describe.each(databaseServers)('on $name', ({ startServer }) => {
  let database: DatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('makes one sandbox for many calls with one id, at once and later, and across a restart', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const letGo = held(host);
    const calls = Array.from({ length: 12 }, () => mesh.create({ requestId }));
    await eventually('the host is making it', () => host.created.length === 1);
    letGo();
    const made = await Promise.all(calls);
    expect(new Set(made.map(({ id }) => id)).size).toBe(1);
    const again = await mesh.create({ requestId });
    expect(again.id).toBe(made[0]?.id);
    await mesh.stop();
    await mesh.start();
    expect((await mesh.create({ requestId })).id).toBe(again.id);
    expect(host.created).toHaveLength(1);
    expect(await records(mesh)).toBe(1);
  });

  test('goes on when its caller leaves, and gives the sandbox to whoever calls again', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const letGo = held(host);
    const abort = new AbortController();
    const lost = mesh.sandboxes.create({ template: 'debian', requestId }, { ...soon(), signal: abort.signal });
    const reason = reasonOf(lost);
    const { sandboxId } = await eventually('the host is making it', () => host.created[0]);
    abort.abort();
    expect(await reason).toBe('CANCELLED');
    const retried = mesh.create({ requestId });
    letGo();
    expect(await retried).toMatchObject({ id: sandboxId, state: SandboxState.RUNNING });
    expect(host.destroyed).toEqual([]);
    expect(await records(mesh)).toBe(1);
  });

  test('gives the sandbox whose answer was lost', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const letGo = held(host);
    const lost = mesh.sandboxes.create({ template: 'debian', requestId }, inMs(300));
    expect(await reasonOf(lost)).toBe('DEADLINE_EXCEEDED');
    letGo();
    const id = host.created[0]?.sandboxId ?? '';
    await eventually('it runs', async () => (await mesh.get(id)).state === SandboxState.RUNNING);
    expect((await mesh.create({ requestId })).id).toBe(id);
  });

  test('waits for the one that an earlier life had begun, and makes another when that one came to nothing', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const first = await mesh.create({ requestId });
    await mesh.stop();
    await execute(mesh.databaseUrl, `update sandboxes set state = 'starting', guest_address = ''`);
    await mesh.start();
    const second = await mesh.create({ requestId });
    expect(second.id).not.toBe(first.id);
    expect(second.state).toBe(SandboxState.RUNNING);
    expect((await mesh.get(first.id)).errorReason).toBe('SCHEDULER_RESTARTED');
    await eventually('the host holds the second only', () => host.vms.size === 1);
    expect([...host.vms.keys()]).toEqual([second.id]);
  });

  test('tells all who wait why it failed, and lets the next call try anew', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const gate = Promise.withResolvers<void>();
    host.whileCreating = async () => {
      await gate.promise;
      throw new WrennError('GUEST_NOT_READY', 'no answer');
    };
    const calls = Array.from({ length: 4 }, () => reasonOf(mesh.create({ requestId })));
    await eventually('the host is making it', () => host.created.length === 1);
    gate.resolve();
    expect(await Promise.all(calls)).toEqual(Array(4).fill('GUEST_NOT_READY'));
    host.whileCreating = async () => {};
    const made = await mesh.create({ requestId });
    expect(host.vms.size).toBe(1);
    expect((await mesh.create({ requestId })).id).toBe(made.id);
  });

  test('refuses another request under the same id, before, while and after it runs', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const letGo = held(host);
    const first = mesh.create({ requestId, env: { A: '1', B: '2' } });
    await eventually('the host is making it', () => host.created.length === 1);
    expect(await reasonOf(mesh.create({ requestId, env: { A: '1' } }))).toBe('REQUEST_ID_REUSED');
    letGo();
    const { id } = await first;
    const refusal = await mesh.create({ requestId, vcpuCount: 2 }).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ reason: 'REQUEST_ID_REUSED', meta: { request_id: requestId } });
    expect((await mesh.create({ requestId, env: { B: '2', A: '1' }, queueTimeout: { seconds: 5n } })).id).toBe(id);
    expect((await mesh.create({ requestId, project: 'other', vcpuCount: 2 })).id).not.toBe(id);
  });

  test('gives the sandbox to a repeated call though others wait for room', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1', { slotCount: 1 });
    const { id } = await mesh.create({ requestId });
    const abort = new AbortController();
    const wait = { template: 'debian', queueTimeout: { seconds: 60n } };
    const waiting = reasonOf(mesh.sandboxes.create(wait, { ...soon(), signal: abort.signal }));
    await eventually('it waits', async () => {
      const refusal = await mesh.create().catch((error: unknown) => error);
      return refusal instanceof WrennError && refusal.meta['waiting'] === '1';
    });
    expect((await mesh.create({ requestId })).id).toBe(id);
    expect(await reasonOf(mesh.create({ requestId, vcpuCount: 2 }))).toBe('REQUEST_ID_REUSED');
    abort.abort();
    expect(await waiting).toBe('CANCELLED');
  });

  test('gives back one that is over by now, as it is', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create({ requestId });
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    expect(await mesh.create({ requestId })).toMatchObject({ id, state: SandboxState.DESTROYED });
    expect(await records(mesh)).toBe(1);
  });

  test('forgets an id after a day', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const first = await mesh.create({ requestId, ttl: { seconds: 86_400n } });
    await mesh.advance(86_000_000);
    await mesh.sandboxes.ping({ sandboxId: first.id }, soon());
    expect((await mesh.create({ requestId, ttl: { seconds: 86_400n } })).id).toBe(first.id);
    await mesh.advance(400_001);
    const second = await mesh.create({ requestId });
    expect(second.id).not.toBe(first.id);
    expect((await mesh.create({ requestId })).id).toBe(second.id);
  });

  test('leaves the queue when the last of its callers does, and not before', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1', { slotCount: 1 });
    const running = await mesh.create();
    const wait = { template: 'debian', requestId, queueTimeout: { seconds: 60n } };
    const abort = new AbortController();
    const first = reasonOf(mesh.sandboxes.create(wait, { ...soon(), signal: abort.signal }));
    const second = mesh.sandboxes.create(wait, soon());
    await mesh.get(running.id);
    abort.abort();
    expect(await first).toBe('CANCELLED');
    await mesh.sandboxes.destroy({ sandboxId: running.id }, soon());
    const { sandbox } = await second;
    const third = mesh.sandboxes.create({ ...wait, requestId: 'x' }, { ...soon(), signal: AbortSignal.timeout(200) });
    expect(await reasonOf(third)).toBe('CANCELLED');
    await mesh.sandboxes.destroy({ sandboxId: sandbox?.id ?? '' }, soon());
    await mesh.create();
    expect(host.created).toHaveLength(3);
  });

  test('undoes one that nobody waits for any more when it stops, and makes it anew when asked again', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    held(host);
    const lost = mesh.sandboxes.create({ template: 'debian', requestId }, inMs(300));
    expect(await reasonOf(lost)).toBe('DEADLINE_EXCEEDED');
    await mesh.stop();
    expect(host.vms.size).toBe(0);
    host.whileCreating = async () => {};
    await mesh.start();
    expect((await mesh.create({ requestId })).state).toBe(SandboxState.RUNNING);
    const states = await execute(mesh.databaseUrl, 'select state, error_reason from sandboxes order by created_at');
    expect(states).toEqual([
      ['error', 'CANCELLED'],
      ['running', ''],
    ]);
  });
});

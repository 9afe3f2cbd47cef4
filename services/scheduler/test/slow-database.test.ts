// A database that is slow, locked or full: calls are refused in time, nothing storms it, and it is used
// again as soon as it can be.
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';

import { type DatabaseProxy, proxyTo } from './support/database-proxy.ts';
import { type OwnDatabaseServer, execute, ownDatabaseServers } from './support/database-servers.ts';
import { untilState } from './support/looks.ts';
import { type TestMesh, reasonOf, refusedInTime, refusedWithinMs, soon, startTestMesh } from './support/test-mesh.ts';

vi.setConfig({ testTimeout: 60_000 });

// Its pool of ten, and the one that listens.
const steadyConnections = 11;

const get = (mesh: TestMesh, id: string) => mesh.sandboxes.get({ sandboxId: id }, soon());

const manyAtOnce = (count: number, call: () => Promise<unknown>) => Promise.all(Array.from({ length: count }, call));

async function untilItWorks(mesh: TestMesh): Promise<void> {
  await eventually('creates work again', () => mesh.create(), 30_000);
}

// All that the server has, the scheduler's too, until it is disposed of.
async function takeEveryConnection(mesh: TestMesh): Promise<AsyncDisposable> {
  await using taken = new AsyncDisposableStack();
  let count = 0;
  const take = async () => {
    const client = new Client({ connectionString: mesh.databaseUrl, application_name: 'others' });
    client.on('error', () => undefined); // It is ended with the server.
    await client.connect();
    count += 1;
    return taken.adopt(client, () => client.end());
  };
  const first = await take();
  const [limit] = (await first.query('show max_connections')).rows;
  // Counted by those taken: one of the scheduler's that is still being made holds a place, and no table shows it.
  await eventually('all of them are taken', async () => {
    while (await take().catch(() => undefined)); // Until there is none left.
    if (count === Number(limit.max_connections)) return true;
    await first.query(`select pg_terminate_backend(pid) from pg_stat_activity
      where backend_type = 'client backend' and application_name <> 'others'`);
    return false;
  });
  return taken.move();
}

// How slow a server is does not depend on which it is: one of them is enough.
describe.each(ownDatabaseServers.slice(0, 1))('on $name', ({ startServer }) => {
  let database: OwnDatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  async function startProxied(): Promise<{ mesh: TestMesh; proxy: DatabaseProxy } & AsyncDisposable> {
    const proxy = await proxyTo(await database.newDatabase());
    const mesh = await startTestMesh({ newDatabase: async () => proxy.url, close: async () => {} });
    return {
      mesh,
      proxy,
      async [Symbol.asyncDispose]() {
        await mesh[Symbol.asyncDispose]();
        await proxy[Symbol.asyncDispose]();
      },
    };
  }

  test('works through a database that takes 60 ms for each statement', async () => {
    await using parts = await startProxied();
    const { mesh, proxy } = parts;
    await mesh.addHost('h1', { slotCount: 20, cpuCount: 20 });
    proxy.delayMs = 60;
    const made = await manyAtOnce(6, () => mesh.create());
    expect(made).toHaveLength(6);
    proxy.delayMs = 0;
  });

  test('refuses in time while each answer takes 2 s, and comes back without a storm of connections', async () => {
    await using parts = await startProxied();
    const { mesh, proxy } = parts;
    const host = await mesh.addHost('h1', { slotCount: 20, cpuCount: 20 });
    const { id } = await mesh.create();
    await manyAtOnce(40, () => get(mesh, id));
    proxy.reset();
    proxy.delayMs = 2000;
    for (let round = 0; round < 3; round++) await manyAtOnce(60, () => refusedInTime(get(mesh, id)));
    await refusedInTime(mesh.create());
    // A connection is given up with its statement, at most one a place and second.
    expect(proxy.peak).toBeLessThanOrEqual(2 * steadyConnections);
    expect(proxy.made).toBeLessThanOrEqual(8 * steadyConnections);
    proxy.delayMs = 0;
    proxy.reset();
    await untilItWorks(mesh);
    // A connection that waits for one fails whoever waits for it.
    await eventually('every late answer has come', () => proxy.lateCount === 0);
    await manyAtOnce(60, () => get(mesh, id));
    expect(proxy.peak).toBeLessThanOrEqual(2 * steadyConnections);
    expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
    expect(host.destroyed).not.toContain(id);
  });

  test('keeps a VM that was resumed while the database does not say whether it is recorded', async () => {
    await using parts = await startProxied();
    const { mesh, proxy } = parts;
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.sandboxes.pause({ sandboxId: id, waitDurable: true }, soon());
    host.whileCreating = async () => {
      proxy.delayMs = 2000;
    };
    expect(await reasonOf(mesh.sandboxes.resume({ sandboxId: id }, soon()))).toBe('DATABASE_UNAVAILABLE');
    proxy.delayMs = 0;
    await untilState(mesh, id, SandboxState.RUNNING, 30_000);
    expect(host.destroyed).not.toContain(id);
    expect(host.vms.has(id)).toBe(true);
  });

  test('comes back with no more connections than before when all of them are cut under load', async () => {
    await using parts = await startProxied();
    const { mesh, proxy } = parts;
    await mesh.addHost('h1');
    const { id } = await mesh.create();
    await manyAtOnce(40, () => get(mesh, id));
    for (let round = 0; round < 5; round++) {
      proxy.reset();
      const calls = Array.from({ length: 100 }, () =>
        get(mesh, id).then(
          () => 'answered',
          () => 'refused',
        ),
      );
      proxy.cut();
      const outcomes = await Promise.all(calls);
      expect(outcomes).toHaveLength(100);
      expect(proxy.peak).toBeLessThanOrEqual(2 * steadyConnections);
      expect(proxy.made).toBeLessThanOrEqual(2 * steadyConnections);
    }
    await untilItWorks(mesh);
  });

  test('refuses in time while somebody keeps its tables locked and all its connections wait', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1', { slotCount: 20, cpuCount: 20 });
    const { id } = await mesh.create();
    const other = new Client({ connectionString: mesh.databaseUrl });
    await other.connect();
    await other.query('begin; lock table sandboxes in access exclusive mode');
    await manyAtOnce(40, () => refusedInTime(get(mesh, id)));
    await refusedInTime(mesh.create());
    // What needs another table only is refused too, or answered: it never hangs.
    const startMs = performance.now();
    await mesh
      .putTemplate('other')
      .catch((error: unknown) => expect(error).toMatchObject({ reason: 'DATABASE_UNAVAILABLE' }));
    expect(performance.now() - startMs).toBeLessThan(refusedWithinMs);
    await other.query('rollback');
    await other.end();
    await untilItWorks(mesh);
    expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
  });

  test('refuses in time while others hold every connection that the server has', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1', { slotCount: 20, cpuCount: 20 });
    const { id } = await mesh.create();
    await using others = await takeEveryConnection(mesh);
    await manyAtOnce(20, () => refusedInTime(get(mesh, id)));
    await refusedInTime(mesh.create());
    await others[Symbol.asyncDispose]();
    await untilItWorks(mesh);
    const rows = await execute(
      mesh.databaseUrl,
      `select count(*)::int from pg_stat_activity
       where application_name like 'wrenn-scheduler%' and datname = current_database()`,
    );
    expect(rows.flat()[0]).toBeLessThanOrEqual(2 * steadyConnections);
  });

  test('keeps creates in the queue through an outage and lets them in afterwards', async () => {
    await using parts = await startProxied();
    const { mesh, proxy } = parts;
    await mesh.addHost('h1', { slotCount: 1 });
    const { id } = await mesh.create();
    const wait = { template: 'debian', queueTimeout: { seconds: 50n } };
    const waiting = mesh.sandboxes.create(wait, { deadlineAtMs: Date.now() + 50_000 });
    await eventually('it waits', async () => {
      const refusal = await mesh.create().catch((error: unknown) => error);
      return (refusal as { meta?: Record<string, string> }).meta?.['waiting'] === '1';
    });
    proxy.delayMs = 3000;
    proxy.cut();
    await refusedInTime(get(mesh, id));
    proxy.delayMs = 0;
    await eventually('it is destroyed', () => mesh.sandboxes.destroy({ sandboxId: id }, soon()), 20_000);
    expect((await waiting).sandbox?.state).toBe(SandboxState.RUNNING);
  });
});

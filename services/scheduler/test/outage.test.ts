// Outages of the database, real ones: its processes are killed or stopped. Coming back, it checks every file
// on a disk that other tests keep busy, so these tests may take longer than others.
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';

import { type OwnDatabaseServer, execute, ownDatabaseServers } from './support/database-servers.ts';
import { type TestMesh, reasonOf, refusedInTime, soon, startTestMesh } from './support/test-mesh.ts';

vi.setConfig({ testTimeout: 60_000 });

async function untilItWorks(mesh: TestMesh) {
  return eventually('a create works again', () => mesh.create());
}

describe.each(ownDatabaseServers)('on $name', ({ startServer }) => {
  let database: OwnDatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('answers within a second while the database is dead, and works again without a restart', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create();
    await database.kill();
    await refusedInTime(mesh.sandboxes.get({ sandboxId: id }, soon()));
    await refusedInTime(mesh.create());
    await refusedInTime(mesh.sandboxes.list({}, soon()));
    await refusedInTime(mesh.sandboxes.destroy({ sandboxId: id }, soon()));
    await database.start();
    await untilItWorks(mesh);
    expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
  });

  test('answers within a second while the database stands still, and works again when it goes on', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    await database.freeze();
    // More calls than connections: those that wait for one are refused in time too.
    const calls = Array.from({ length: 40 }, () => mesh.sandboxes.get({ sandboxId: id }, soon()));
    await Promise.all(calls.map(refusedInTime));
    await refusedInTime(mesh.sandboxes.ping({ sandboxId: id }, soon()));
    await refusedInTime(mesh.create());
    await database.thaw();
    await untilItWorks(mesh);
    expect(host.destroyed).not.toContain(id);
  });

  test('undoes a create on its host when the database is gone by the time it is ready', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const gate = Promise.withResolvers<void>();
    host.whileCreating = () => gate.promise;
    const created = reasonOf(mesh.create());
    const { sandboxId } = await eventually('the host is making it', () => host.created[0]);
    await database.kill();
    gate.resolve();
    expect(await created).toBe('DATABASE_UNAVAILABLE');
    expect(host.destroyed).toEqual([sandboxId]);
    expect(host.vms.size).toBe(0);
    await database.start();
    host.whileCreating = async () => {};
    await untilItWorks(mesh);
  });

  test('shows a watcher what happened before, during and after an outage, once', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const seen: bigint[] = [];
    const abort = new AbortController();
    const watching = (async () => {
      for await (const { event } of mesh.sandboxes.watchEvents({}, { signal: abort.signal })) {
        seen.push(event?.sequence ?? 0n);
      }
    })().catch((error: unknown) => error);
    const before = await mesh.create();
    await eventually('the first were seen', () => seen.length === 3);
    await database.kill();
    await refusedInTime(mesh.sandboxes.destroy({ sandboxId: before.id }, soon()));
    await database.start();
    await untilItWorks(mesh);
    const rows = await execute(mesh.databaseUrl, 'select sequence from sandbox_events order by sequence');
    await eventually('all were seen', () => seen.length === rows.length);
    expect(seen).toEqual(rows.flat().map((sequence) => BigInt(String(sequence))));
    abort.abort();
    await watching;
  });
});

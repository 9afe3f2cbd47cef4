import { ActivityReport } from '@wrenn/kit/activity-report';
import { newSandboxId } from '@wrenn/kit/ids';
import { openLog } from '@wrenn/kit/log';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type DatabaseServer, databaseServers } from './support/database-servers.ts';
import { type TestMesh, present, reasonOf, soon, startTestMesh } from './support/test-mesh.ts';

const expiryOf = async (mesh: TestMesh, id: string) => {
  const { seconds, nanos } = present((await mesh.get(id)).expiresAt);
  return Number(seconds) * 1000 + nanos / 1e6;
};

describe.each(databaseServers)('on $name', ({ startServer }) => {
  let database: DatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('lets each that was used live at least its own ttl from now, and shortens none', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const brief = await mesh.create({ ttl: { seconds: 60n } });
    const long = await mesh.create({ ttl: { seconds: 60n } });
    const unused = await mesh.create({ ttl: { seconds: 60n } });
    await mesh.sandboxes.setTimeout({ sandboxId: long.id, ttl: { seconds: 1000n } }, soon());
    const before = { long: await expiryOf(mesh, long.id), unused: await expiryOf(mesh, unused.id) };
    await mesh.advance(30_000);
    const nowMs = Date.now() + 30_000;
    const sandboxIds = [brief.id, newSandboxId(), long.id, brief.id];
    await mesh.inside.reportActivity({ sandboxIds }, soon());
    const after = await expiryOf(mesh, brief.id);
    expect(after).toBeGreaterThanOrEqual(nowMs + 60_000);
    expect(after).toBeLessThan(nowMs + 70_000);
    expect(await expiryOf(mesh, long.id)).toBeGreaterThanOrEqual(before.long);
    expect(await expiryOf(mesh, unused.id)).toBe(before.unused);
  });

  test('writes a sandbox that is used all the time only every few seconds', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create();
    const report = () => mesh.inside.reportActivity({ sandboxIds: [id] }, soon());
    await report();
    const { version } = await mesh.get(id);
    for (let i = 0; i < 20; i++) await report();
    expect((await mesh.get(id)).version).toBe(version);
    await mesh.advance(6000);
    await report();
    expect((await mesh.get(id)).version).toBe(version + 1n);
  });

  test('passes over what is not running, and refuses what is no id or too many', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create();
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    const before = await mesh.get(id);
    await mesh.advance(60_000);
    await mesh.inside.reportActivity({ sandboxIds: [id] }, soon());
    await mesh.inside.reportActivity({}, soon());
    expect(await mesh.get(id)).toEqual(before);
    expect(await reasonOf(mesh.inside.reportActivity({ sandboxIds: ['x'] }, soon()))).toBe('INVALID_FIELD');
    const many = Array.from({ length: 1001 }, () => id);
    expect(await reasonOf(mesh.inside.reportActivity({ sandboxIds: many }, soon()))).toBe('INVALID_FIELD');
  });

  test('never deadlocks reports that name the same sandboxes in different orders', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const ids = (await Promise.all(Array.from({ length: 8 }, () => mesh.create()))).map(({ id }) => id);
    for (let round = 1; round <= 5; round++) {
      await mesh.advance(10_000);
      const reports = Array.from({ length: 20 }, (_, i) =>
        mesh.inside.reportActivity({ sandboxIds: i % 2 ? ids : ids.toReversed() }, soon()),
      );
      await Promise.all(reports);
    }
  });

  test('keeps a sandbox of 2 s alive for as long as a stream into it is open, and ends it after', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const report = new ActivityReport({
      send: (sandboxIds) => mesh.inside.reportActivity({ sandboxIds }, soon()),
      log: openLog('test', 'silent'),
    });
    const idle = await mesh.create({ ttl: { seconds: 2n } });
    const { id } = await mesh.create({ ttl: { seconds: 2n } });
    const startMs = Date.now();
    {
      using _stream = report.use(id);
      await eventually('the idle one is gone', async () => (await mesh.get(idle.id)).state === SandboxState.DESTROYED);
      await eventually('three times its ttl has passed', () => Date.now() - startMs > 6000);
      expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
    }
    await eventually('it ends', async () => (await mesh.get(id)).state === SandboxState.DESTROYED);
    report.close();
  });
});

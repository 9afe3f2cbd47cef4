import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type DatabaseServer, databaseServers } from './support/database-servers.ts';
import { eventsOf, rows } from './support/looks.ts';
import { type TestMesh, present, reasonOf, soon, startTestMesh, unknownId } from './support/test-mesh.ts';

const accessOf = async (mesh: TestMesh, sandboxId: string) =>
  present((await mesh.sandboxes.getAccess({ sandboxId }, soon())).access);
const find = (mesh: TestMesh, sandboxId: string) => mesh.inside.findSandbox({ sandboxId }, soon());

describe.each(databaseServers)('on $name', ({ startServer }) => {
  let database: DatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('a sandbox has secrets of its own, which it keeps through a pause and its host is told each time', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id, secure, publicPorts } = await mesh.create({ secure: true, publicPorts: [8000, 80, 8000] });
    expect({ secure, publicPorts }).toEqual({ secure: true, publicPorts: [80, 8000] });
    const access = await accessOf(mesh, id);
    expect(access).toMatchObject({ secure: true, publicPorts: [80, 8000] });
    expect(access.trafficToken).toMatch(/^[0-9a-z]{25}$/);
    expect(access.accessToken).toMatch(/^[0-9a-f]{64}$/);
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    await mesh.sandboxes.resume({ sandboxId: id }, soon());
    expect(await accessOf(mesh, id)).toEqual(access);
    expect(host.created.map(({ accessToken }) => accessToken)).toEqual([access.accessToken, access.accessToken]);

    const { id: other } = await mesh.create();
    const others = await accessOf(mesh, other);
    expect(others).toMatchObject({ secure: false, publicPorts: [] });
    expect(others.trafficToken).not.toBe(access.trafficToken);
    expect(others.accessToken).not.toBe(access.accessToken);
  });

  test('a child of a fork is as open as its source, and has other secrets', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create({ secure: true, publicPorts: [80] });
    const { sandboxes } = await mesh.sandboxes.fork({ sandboxId: id, count: 2 }, soon());
    const all = await Promise.all([id, ...sandboxes.map((child) => child.id)].map((each) => accessOf(mesh, each)));
    expect(all.map(({ secure, publicPorts }) => ({ secure, publicPorts }))).toEqual(
      Array(3).fill({ secure: true, publicPorts: [80] }),
    );
    expect(new Set(all.flatMap(({ trafficToken, accessToken }) => [trafficToken, accessToken])).size).toBe(6);
    expect(new Set(host.created.map(({ accessToken }) => accessToken))).toEqual(
      new Set(all.map(({ accessToken }) => accessToken)),
    );
  });

  test('an edge is told where a sandbox is and who may reach it, and wakes none by that', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create({ secure: true, autoResume: true });
    const access = await accessOf(mesh, id);
    expect(await find(mesh, id)).toMatchObject({
      state: SandboxState.RUNNING,
      guestAddress: '10.11.0.1',
      autoResume: true,
      access,
    });
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    expect(await find(mesh, id)).toMatchObject({ state: SandboxState.PAUSED, guestAddress: '', autoResume: true });
    expect(host.created).toHaveLength(1);
  });

  test('access is set while it runs and while it is paused, and an event tells of it', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create();
    const before = await accessOf(mesh, id);
    const set = await mesh.sandboxes.setAccess({ sandboxId: id, secure: true, publicPorts: [3000] }, soon());
    expect(set.sandbox).toMatchObject({ secure: true, publicPorts: [3000] });
    await mesh.sandboxes.pause({ sandboxId: id, waitDurable: true }, soon());
    await mesh.sandboxes.setAccess({ sandboxId: id }, soon());
    expect(await accessOf(mesh, id)).toEqual(before);
    const events = await eventsOf(mesh, id);
    expect(events.filter((event) => event.includes('ACCESS_SET'))).toEqual(['running ACCESS_SET', 'paused ACCESS_SET']);
  });

  test('access that is set while a sandbox is being made, paused or resumed does not disturb that', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const set = async (sandboxId: string) => {
      await mesh.sandboxes.setAccess({ sandboxId, secure: true }, soon());
    };
    host.whileCreating = set;
    host.whileFreezing = set;
    const { id } = await mesh.create();
    expect((await mesh.get(id)).secure).toBe(true);
    await mesh.sandboxes.pause({ sandboxId: id }, soon());
    const { sandbox } = await mesh.sandboxes.resume({ sandboxId: id }, soon());
    expect(sandbox).toMatchObject({ state: SandboxState.RUNNING, secure: true });
  });

  test('one that is over is not found any more, and its secrets are gone', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const [{ id }, failed] = [await mesh.create(), await mesh.create()];
    await mesh.sandboxes.destroy({ sandboxId: id }, soon());
    host.vms.delete(failed.id);
    await eventually('it is in error', async () => (await mesh.get(failed.id)).state === SandboxState.ERROR);
    for (const sandboxId of [id, failed.id, unknownId]) {
      expect(await reasonOf(find(mesh, sandboxId))).toBe('SANDBOX_NOT_FOUND');
      expect(await reasonOf(accessOf(mesh, sandboxId))).toBe('SANDBOX_NOT_FOUND');
      expect(await reasonOf(mesh.sandboxes.setAccess({ sandboxId }, soon()))).toBe('SANDBOX_NOT_FOUND');
    }
    const secrets = `sandboxes where traffic_token <> '' or access_token <> ''`;
    expect(await rows(mesh, secrets)).toBe(0);
  });

  test('what is set is checked', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create();
    const refused = [
      { secure: true, publicPorts: [0] },
      { secure: true, publicPorts: [65_536] },
      { secure: true, publicPorts: [49_983] },
      { secure: true, publicPorts: Array.from({ length: 65 }, (_, index) => index + 1) },
      { publicPorts: [80] },
    ];
    for (const access of refused) {
      expect(await reasonOf(mesh.sandboxes.setAccess({ sandboxId: id, ...access }, soon()))).toBe('INVALID_FIELD');
      expect(await reasonOf(mesh.create(access))).toBe('INVALID_FIELD');
    }
    expect(await accessOf(mesh, id)).toMatchObject({ secure: false, publicPorts: [] });
  });

  test('a create that is repeated with other access is another one', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const first = await mesh.create({ requestId: 'r', secure: true });
    expect((await mesh.create({ requestId: 'r', secure: true })).id).toBe(first.id);
    expect(await reasonOf(mesh.create({ requestId: 'r' }))).toBe('REQUEST_ID_REUSED');
    expect(await reasonOf(mesh.create({ requestId: 'r', secure: true, publicPorts: [80] }))).toBe('REQUEST_ID_REUSED');
  });
});

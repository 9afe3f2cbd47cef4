import { eventually } from '@wrenn/kit/testkit/eventually';
import { WrennError } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { VmState } from '@wrenn/proto/wrenn/vmruntime/v1/vmruntime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type DatabaseServer, databaseServers, execute } from './support/database-servers.ts';
import { type TestHost, untilAborted } from './support/test-host.ts';
import { type TestMesh, present, reasonOf, soon, startTestMesh } from './support/test-mesh.ts';

const dead = (deathReason: string) => ({ state: VmState.DEAD, deathReason });

async function untilState(mesh: TestMesh, id: string, state: SandboxState) {
  return eventually(`${id} is in state ${state}`, async () => {
    const sandbox = await mesh.get(id);
    return sandbox.state === state && sandbox;
  });
}

async function untilReconciledTwice(host: TestHost): Promise<void> {
  const before = host.listings();
  await eventually('two more listings', () => host.listings() >= before + 3);
}

describe.each(databaseServers)('on $name', ({ startServer }) => {
  let database: DatabaseServer;
  beforeAll(async () => {
    database = await startServer();
  });
  afterAll(() => database.close());

  test('destroys a sandbox when its time is up, and not one that was pinged', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const [brief, pinged] = [
      await mesh.create({ ttl: { seconds: 60n } }),
      await mesh.create({ ttl: { seconds: 60n } }),
    ];
    await mesh.advance(50_000);
    await mesh.sandboxes.ping({ sandboxId: pinged.id }, soon());
    await mesh.advance(20_000);
    await untilState(mesh, brief.id, SandboxState.DESTROYED);
    expect(host.vms.has(brief.id)).toBe(false);
    expect((await mesh.get(pinged.id)).state).toBe(SandboxState.RUNNING);
    const reasons = await execute(
      mesh.databaseUrl,
      `select reason from sandbox_events where sandbox_id = '${brief.id}' order by sequence`,
    );
    expect(reasons.flat()).toEqual(['REQUESTED', 'PLACED', 'AGENT_READY', 'TTL_EXPIRED', 'RELEASED']);
  });

  test('reaps the sandboxes of a good host while another one hangs', async () => {
    await using mesh = await startTestMesh(database);
    const [stuck, good] = [await mesh.addHost('h1', { slotCount: 1 }), await mesh.addHost('h2', { slotCount: 1 })];
    stuck.whileDestroying = (_id, signal) => untilAborted(signal);
    const ids = [(await mesh.create({ ttl: { seconds: 60n } })).id, (await mesh.create({ ttl: { seconds: 60n } })).id];
    const onGood = present(ids.find((id) => good.vms.has(id)));
    await mesh.advance(61_000);
    await untilState(mesh, onGood, SandboxState.DESTROYED);
    await eventually('the other one is being tried', () => stuck.destroyed.length === 1);
  });

  test('moves a sandbox to error when its VM is gone, after a second look', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const [lost, kept] = [await mesh.create(), await mesh.create()];
    host.vms.delete(lost.id);
    const sandbox = await untilState(mesh, lost.id, SandboxState.ERROR);
    expect(sandbox.errorReason).toBe('VMM_LOST');
    expect((await mesh.get(kept.id)).state).toBe(SandboxState.RUNNING);
  });

  test('believes a host that once forgets a VM and then knows it again', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const vm = present(host.vms.get(id));
    let isForgotten = false;
    host.beforeListing = () => {
      isForgotten = !isForgotten;
      if (isForgotten) host.vms.delete(id);
      else host.vms.set(id, vm);
    };
    await untilReconciledTwice(host);
    await untilReconciledTwice(host);
    expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
  });

  test('moves a sandbox to error with the reason its VM died of, and has the rest removed', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    host.vms.set(id, dead('GUEST_PANIC'));
    expect((await untilState(mesh, id, SandboxState.ERROR)).errorReason).toBe('GUEST_PANIC');
    await eventually('nothing is left on the host', () => host.vms.size === 0);
  });

  test('has VMs removed that no sandbox stands for, and lets the others alone', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    const { id: over } = await mesh.create();
    await mesh.sandboxes.destroy({ sandboxId: over }, soon());
    host.vms.set(newSandboxId(), { state: VmState.RUNNING, deathReason: '' });
    host.vms.set(over, { state: VmState.RUNNING, deathReason: '' });
    await eventually('the strangers are gone', () => host.vms.size === 1);
    expect([...host.vms.keys()]).toEqual([id]);
    expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
    expect(host.destroyed).not.toContain(id);
  });

  test('changes nothing while both sides agree, and nothing of a create in progress', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const settled = await mesh.create();
    const gate = Promise.withResolvers<void>();
    host.whileCreating = () => gate.promise;
    const creating = mesh.create();
    await eventually('the host is making it', () => host.created.length === 2);
    await untilReconciledTwice(host);
    expect(await mesh.get(settled.id)).toEqual(settled);
    gate.resolve();
    expect((await creating).state).toBe(SandboxState.RUNNING);
    expect(host.destroyed).toEqual([]);
  });

  test('leaves sandboxes as they are while their host does not answer', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const other = await mesh.addHost('h2');
    const { id } = await mesh.create();
    await host.close();
    await untilReconciledTwice(other);
    expect((await mesh.get(id)).state).toBe(SandboxState.RUNNING);
  });

  test('takes up a destroy again that its host had refused', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const { id } = await mesh.create();
    let refusals = 0;
    host.whileDestroying = async () => {
      if (++refusals <= 3) throw new WrennError('SERVICE_UNAVAILABLE', 'not now');
    };
    expect(await reasonOf(mesh.sandboxes.destroy({ sandboxId: id }, soon()))).toBe('SERVICE_UNAVAILABLE');
    await untilState(mesh, id, SandboxState.DESTROYED);
    expect(refusals).toBe(4);
  });

  test('ends what an earlier life left half-done: creates become errors, destroys are finished', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    const [starting, destroying, running] = [await mesh.create(), await mesh.create(), await mesh.create()];
    await mesh.stop();
    await execute(
      mesh.databaseUrl,
      `update sandboxes set state = 'starting' where id = '${starting.id}';
       update sandboxes set state = 'destroying' where id = '${destroying.id}'`,
    );
    await mesh.start();
    expect((await untilState(mesh, starting.id, SandboxState.ERROR)).errorReason).toBe('SCHEDULER_RESTARTED');
    await untilState(mesh, destroying.id, SandboxState.DESTROYED);
    await eventually('their VMs are gone', () => host.vms.size === 1);
    expect(host.destroyed).toEqual(expect.arrayContaining([starting.id, destroying.id]));
    expect((await mesh.get(running.id)).state).toBe(SandboxState.RUNNING);
  });

  test('gives up a create that nobody works on any more', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const { id } = await mesh.create();
    await execute(mesh.databaseUrl, `update sandboxes set state = 'starting', state_changed_at = now()`);
    await mesh.advance(131_000);
    expect((await untilState(mesh, id, SandboxState.ERROR)).errorReason).toBe('CREATE_ABANDONED');
  });

  test('undoes creates in progress when it stops', async () => {
    await using mesh = await startTestMesh(database);
    const host = await mesh.addHost('h1');
    host.whileCreating = (_id, signal) => untilAborted(signal);
    const created = reasonOf(mesh.create());
    await eventually('the host is making it', () => host.created.length === 1);
    await mesh.stop();
    await created;
    expect(host.vms.size).toBe(0);
    const states = await execute(mesh.databaseUrl, 'select state, error_reason from sandboxes');
    expect(states).toEqual([['error', 'CANCELLED']]);
    await mesh.start();
  });

  test('forgets what is over after a day, with its events, and old events of what still runs', async () => {
    await using mesh = await startTestMesh(database);
    await mesh.addHost('h1');
    const [over, running] = [await mesh.create(), await mesh.create({ ttl: { seconds: 86_400n } })];
    await mesh.sandboxes.destroy({ sandboxId: over.id }, soon());
    await mesh.advance(86_300_000);
    await mesh.sandboxes.ping({ sandboxId: running.id }, soon());
    await mesh.stop();
    await mesh.start();
    expect((await mesh.get(over.id)).state).toBe(SandboxState.DESTROYED);
    mesh.advanceInSilence(200_000);
    await mesh.stop();
    await mesh.start();
    await eventually('it is forgotten', async () => {
      return (await reasonOf(mesh.sandboxes.get({ sandboxId: over.id }, soon()))) === 'SANDBOX_NOT_FOUND';
    });
    await eventually('events are forgotten', async () => {
      const rows = await execute(mesh.databaseUrl, 'select count(*)::int from sandbox_events');
      return rows.flat()[0] === 0;
    });
    expect((await mesh.get(running.id)).state).toBe(SandboxState.RUNNING);
  });
});

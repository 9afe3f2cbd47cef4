import { setImmediate } from 'node:timers/promises';

import { WrennError } from '@wrenn/kit/errors';
import { newSandboxId, newSnapshotId } from '@wrenn/kit/ids';
import { beforeEach, expect, test, vi } from 'vitest';

import type { FakeMachine } from '../../test/fakes.ts';
import { FakeHost, bootSpec, caller, orderOf, restoreSpec } from '../../test/fake-host.ts';
import { takeSnapshot } from './take-snapshot.ts';

let host: FakeHost;

const failure = new WrennError('NO_SLOT_LEFT', 'none');

beforeEach(() => {
  host = new FakeHost();
});

test('tells of a VM that died why, cuts its calls and takes its last words', async () => {
  const { vms, wanted } = await host.runningVm();
  expect(host.consoles.watched.has(wanted.sandboxId)).toBe(true);
  host.machineOf(wanted.sandboxId).die({ reason: 'VMM_DIED', message: 'killed' });
  await vi.waitFor(() => expect(host.agent.isClosed).toBe(true));
  expect(() => vms.running(wanted.sandboxId)).toThrow('killed');
  expect(host.consoles.watched.has(wanted.sandboxId)).toBe(false);
});

test('the bulk thread knows a sandbox from the moment it runs until it dies or is destroyed', async () => {
  const vms = host.table();
  const [dying, destroyed] = [bootSpec(), bootSpec()];
  for (const wanted of [dying, destroyed]) await vms.create(wanted, caller);
  expect(host.bulk.guests.get(dying.sandboxId)).toBe(`10.11.0.1 ${host.token}`);
  host.machineOf(dying.sandboxId).die({ reason: 'VMM_DIED', message: 'killed' });
  await vi.waitFor(() => expect(host.bulk.guests.has(dying.sandboxId)).toBe(false));
  await vms.destroy(destroyed.sandboxId);
  expect(host.bulk.guests.size).toBe(0);
});

test('a VMM that gives no sign, nor its guest, is dead; one sign is enough to live', async () => {
  const { vms, wanted } = await host.runningVm();
  const state = () => vms.list()[0]!.state;
  const machine = host.machineOf(wanted.sandboxId);
  machine.isHealthy = false;
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(state().name).toBe('running');
  host.agent.isHealthy = false;
  await vi.waitFor(() => expect(state()).toMatchObject({ name: 'dead', death: { reason: 'VMM_STUCK' } }));
  expect([host.agent.isClosed, host.bulk.guests.size]).toEqual([true, 0]);
  await vms.destroy(wanted.sandboxId);
  expect(host.held()).toEqual([0, 0, 0, 0]);
});

test('a paused VM is gone from the host, and becomes a snapshot that has what it was made of', async () => {
  const { vms, wanted } = await host.runningVm();
  const order = orderOf(false);
  const { stages } = await vms.snapshot(wanted.sandboxId, order, caller);
  expect(stages.map(({ stage }) => stage)).toEqual(['drain', 'prepare', 'quiesce', 'journal']);
  expect(host.agent.isQuiet).toBe(true);
  expect(vms.list()).toEqual([]);
  await vi.waitFor(() => expect(host.agent.closedFor).toBe('SANDBOX_PAUSED'));
  expect(await host.coming.get(order.snapshotId, false, caller)).toMatchObject({ sandboxId: wanted.sandboxId });
  await vi.waitFor(() => expect(host.held()).toEqual([0, 0, 0, 0]));
  await vi.waitFor(() => expect(() => vms.running(wanted.sandboxId)).toThrow('no VM'));
  expect(host.snapshots.staged.get(order.snapshotId)).toMatchObject({
    parentId: undefined,
    machine: { ...host.vmm.madeOf, vcpuCount: 1, memoryBytes: 2 ** 28 },
  });
});

test('files on their way are cut only after they were waited for', async () => {
  const { vms, wanted } = await host.runningVm();
  const drained = Promise.withResolvers<number>();
  host.agent.drain = () => drained.promise;
  const paused = vms.snapshot(wanted.sandboxId, orderOf(false), caller);
  await setImmediate();
  expect([host.bulk.guests.size, host.agent.isQuiet]).toEqual([1, false]);
  drained.resolve(1);
  await paused;
  expect([host.bulk.guests.size, host.agent.isQuiet]).toEqual([0, true]);
});

test('an agent that cannot wait for files does not keep a pause up', async () => {
  const { vms, wanted } = await host.runningVm();
  host.agent.drain = () => Promise.reject(failure);
  await vms.snapshot(wanted.sandboxId, orderOf(false), caller);
  expect(vms.list()).toEqual([]);
});

test('a pause does not wait for the end of what it killed, but its slot does', async () => {
  const { vms, wanted } = await host.runningVm();
  const end = host.vmm.holdEnds();
  await vms.snapshot(wanted.sandboxId, orderOf(false), caller);
  expect(host.vmm.struck).toEqual([]);
  await vi.waitFor(() => expect(host.vmm.struck).toEqual([host.machineOf(wanted.sandboxId).processes]));
  expect([...host.slots.leased]).toEqual([wanted.sandboxId]);
  end();
  await vi.waitFor(() => expect(host.held()).toEqual([0, 0, 0, 0]));
});

test('a VM that goes on does so once what it was has ended', async () => {
  const { vms, wanted } = await host.runningVm();
  const end = host.vmm.holdEnds();
  const order = orderOf(true);
  const frozen = vms.snapshot(wanted.sandboxId, order, caller);
  await vi.waitFor(() => expect(host.snapshots.opened).toEqual([order.snapshotId]));
  expect(host.vmm.startCount).toBe(1);
  end();
  const { stages } = await frozen;
  expect(stages.map(({ stage }) => stage)).toContain('kill');
  expect(host.vmm.startCount).toBe(2);
});

test('a snapshot that keeps its VM running restores it from itself, in its own slot', async () => {
  const { vms, wanted } = await host.runningVm();
  const order = orderOf(true);
  await vms.snapshot(wanted.sandboxId, order, caller);
  expect(vms.running(wanted.sandboxId).facts).toMatchObject({ snapshotId: order.snapshotId });
  expect(host.agent.isQuiet).toBe(false);
  expect(host.held()).toEqual([1, 1, 1, 1]);
  const next = orderOf(false);
  await vms.snapshot(wanted.sandboxId, next, caller);
  await host.coming.get(next.snapshotId, false, caller);
  expect(host.snapshots.staged.get(next.snapshotId)?.parentId).toBe(order.snapshotId);
});

test.each([
  ['the guest does not stand still', () => (host.agent.quiesceFailure = failure)],
  ['the VMM does not save', (machine: FakeMachine) => (machine.freezeFailure = failure)],
])('when %s the VM runs on as before', async (_what, breakIt) => {
  const { vms, wanted } = await host.runningVm();
  const machine = host.machineOf(wanted.sandboxId);
  breakIt(machine);
  await expect(vms.snapshot(wanted.sandboxId, orderOf(false), caller)).rejects.toBe(failure);
  expect(vms.running(wanted.sandboxId).machine).toBe(machine);
  expect([machine.isStopped, host.agent.isQuiet, host.agent.isClosed]).toEqual([false, false, false]);
  expect([...host.journal.records.values()].map(({ phase }) => phase)).toEqual(['running']);
  expect(host.snapshots.staged.size).toBe(0);
});

test('a VM that could not be frozen, and stands still, is not served until it goes on', async () => {
  const { vms, wanted } = await host.runningVm();
  const { sandboxId } = wanted;
  const machine = host.machineOf(sandboxId);
  machine.freezeFailure = machine.goOnFailure = new WrennError('VMM_STUCK', 'no answer');
  const paused = vms.snapshot(sandboxId, orderOf(false), caller);
  await vi.waitFor(() => expect(vms.list()[0]?.state.name).toBe('thawing'));
  const waiting = vms.serving(sandboxId);
  // What would freeze it meanwhile must not be made to go on in the midst of it.
  await expect(vms.snapshot(sandboxId, orderOf(false), caller)).rejects.toMatchObject({
    reason: 'SANDBOX_NOT_RUNNING',
  });
  machine.freezeFailure = machine.goOnFailure = undefined;
  await expect(paused).rejects.toMatchObject({ reason: 'VMM_STUCK' });
  expect((await waiting).machine).toBe(machine);
  expect([machine.isStopped, host.agent.isQuiet, host.bulk.guests.has(sandboxId)]).toEqual([false, false, true]);
  expect([...host.journal.records.values()].map(({ phase }) => phase)).toEqual(['running']);
});

test.each(['before', 'after'])('a VM that gives no sign from %s its freeze on is found stuck', async (when) => {
  const { vms, wanted } = await host.runningVm();
  const machine = host.machineOf(wanted.sandboxId);
  const stand = Promise.withResolvers<void>();
  machine.whileFreezing = () => stand.promise;
  machine.freezeFailure = machine.goOnFailure = new WrennError('VMM_STUCK', 'no answer');
  const paused = vms.snapshot(wanted.sandboxId, orderOf(false), caller).catch((error: unknown) => error);
  const silence = () => (machine.isHealthy = host.agent.isHealthy = false);
  if (when === 'before') silence();
  // Longer than the watchdog takes.
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(vms.list()[0]?.state.name).toBe('freezing');
  silence();
  stand.resolve();
  await vi.waitFor(() => expect(vms.list()[0]?.state).toMatchObject({ name: 'dead', death: { reason: 'VMM_STUCK' } }));
  expect(await paused).toMatchObject({ reason: 'VMM_STUCK' });
  await vms.destroy(wanted.sandboxId);
  expect(host.held()).toEqual([0, 0, 0, 0]);
});

test('a VM that was destroyed while it did not go on is released', async () => {
  const { vms, wanted } = await host.runningVm();
  const machine = host.machineOf(wanted.sandboxId);
  machine.freezeFailure = machine.goOnFailure = new WrennError('VMM_STUCK', 'no answer');
  const paused = vms.snapshot(wanted.sandboxId, orderOf(false), caller).catch((error: unknown) => error);
  await vi.waitFor(() => expect(vms.list()[0]?.state.name).toBe('thawing'));
  await vms.destroy(wanted.sandboxId);
  expect(host.held()).toEqual([0, 0, 0, 0]);
  expect(await paused).toMatchObject({ reason: 'VMM_STUCK' });
  await vms.create(wanted, caller);
  expect(host.held()).toEqual([1, 1, 1, 1]);
});

test('a VM that ends while it is frozen is told as that', async () => {
  const { vms, wanted } = await host.runningVm();
  const machine = host.machineOf(wanted.sandboxId);
  machine.freezeFailure = machine.goOnFailure = new WrennError('VMM_DIED', 'it ended');
  machine.die({ reason: 'VMM_DIED', message: 'it ended' });
  await expect(vms.snapshot(wanted.sandboxId, orderOf(true), caller)).rejects.toMatchObject({ reason: 'VMM_DIED' });
  await vi.waitFor(() => expect(vms.list()[0]?.state.name).toBe('dead'));
});

test('a VM that ends before it goes on from a snapshot did not start', async () => {
  const { vms, wanted } = await host.runningVm();
  const order = orderOf(false);
  const { sandboxId } = wanted;
  await takeSnapshot(vms, host.coming, sandboxId, order, caller);
  host.vmm.goOnFailure = new WrennError('VMM_DIED', 'it ended');
  const resumed = restoreSpec(wanted, order.snapshotId);
  await expect(vms.create(resumed, caller)).rejects.toMatchObject({ reason: 'VMM_START_FAILED' });
  expect(host.held()).toEqual([0, 0, 0, 0]);
});

test('a store that is away is not waited for by a pause, but by what needs the snapshot', async () => {
  const { vms, wanted } = await host.runningVm();
  host.snapshots.failures.push(
    new WrennError('SERVICE_UNAVAILABLE', 'down'),
    new WrennError('DEADLINE_EXCEEDED', 'slow'),
  );
  const order = orderOf(false);
  const { sandboxId } = wanted;
  await vms.snapshot(sandboxId, order, caller);
  expect(vms.list()).toEqual([]);
  expect(host.snapshots.staged.size).toBe(0);
  const again = takeSnapshot(vms, host.coming, sandboxId, order, caller);
  await Promise.all([vms.create(restoreSpec(wanted, order.snapshotId, newSandboxId()), caller), again]);
  expect(host.snapshots.staged.has(order.snapshotId)).toBe(true);
  await vms.create(restoreSpec(wanted, order.snapshotId), caller);
  expect(vms.list().map(({ state }) => state.name)).toEqual(['running', 'running']);
});

test('a frozen VM that the store refuses for good is told as dead', async () => {
  const { vms, wanted } = await host.runningVm();
  host.snapshots.failures.push(new WrennError('SOURCE_NOT_FOUND', 'its files are gone'));
  const order = orderOf(false);
  await vms.snapshot(wanted.sandboxId, order, caller);
  await expect(host.coming.get(order.snapshotId, false, caller)).rejects.toMatchObject({
    reason: 'SNAPSHOT_NOT_FOUND',
  });
  expect(vms.list().map(({ state }) => state)).toEqual([
    { name: 'dead', death: { reason: 'FREEZE_FAILED', message: 'its files are gone' } },
  ]);
  await vms.destroy(wanted.sandboxId);
  expect(host.held()).toEqual([0, 0, 0, 0]);
});

test('a paused VM that is destroyed before the store has it leaves nothing', async () => {
  const { vms, wanted } = await host.runningVm();
  const order = orderOf(false);
  host.snapshots.failures.push(...Array.from({ length: 9 }, () => new WrennError('SERVICE_UNAVAILABLE', 'down')));
  await vms.snapshot(wanted.sandboxId, order, caller);
  await vms.destroy(wanted.sandboxId);
  await host.coming.delete(order.snapshotId, caller);
  expect([host.held(), vms.list(), host.snapshots.staged.size]).toEqual([[0, 0, 0, 0], [], 0]);
});

test('a VM that is to go on waits for a store that is away, and takes no disk that was half made', async () => {
  const { vms, wanted } = await host.runningVm();
  const deleted = vi.spyOn(host.disks, 'delete');
  vi.spyOn(host.snapshots, 'open').mockRejectedValueOnce(new WrennError('SERVICE_UNAVAILABLE', 'cut off'));
  await vms.snapshot(wanted.sandboxId, orderOf(true), caller);
  expect(vms.list().map(({ state }) => state.name)).toEqual(['running']);
  expect(deleted).toHaveBeenCalledTimes(1);
});

test('calls on a VM that is being paused are refused before they begin, and so is a second freeze', async () => {
  const { vms, wanted } = await host.runningVm();
  const frozen = vms.snapshot(wanted.sandboxId, orderOf(false), caller);
  await expect(vms.serving(wanted.sandboxId)).rejects.toMatchObject({ reason: 'SANDBOX_NOT_RUNNING' });
  const second = vms.snapshot(wanted.sandboxId, orderOf(false), caller);
  await expect(second).rejects.toMatchObject({ reason: 'SANDBOX_NOT_RUNNING' });
  await frozen;
});

test('calls on a VM that is frozen to go on wait until it does', async () => {
  const { vms, wanted } = await host.runningVm();
  const frozen = vms.snapshot(wanted.sandboxId, orderOf(true), caller);
  const { agent } = await vms.serving(wanted.sandboxId);
  expect(vms.running(wanted.sandboxId).agent).toBe(agent);
  await frozen;
});

test('a snapshot made on another VMM is refused by name, and leaves nothing', async () => {
  const vms = host.table();
  const wanted = bootSpec();
  const { sandboxId, template } = wanted;
  const snapshotId = newSnapshotId();
  const machine = { ...host.vmm.madeOf, vmm: 'qemu 0', vcpuCount: 1, memoryBytes: 2 ** 28 };
  host.snapshots.staged.set(snapshotId, {
    snapshotId,
    sandboxId,
    parentId: undefined,
    frozenDirectory: '',
    machine,
    template,
  });
  const restored = vms.create(restoreSpec(wanted, snapshotId), caller);
  await expect(restored).rejects.toMatchObject({
    reason: 'SNAPSHOT_INCOMPATIBLE',
    meta: { snapshot_vmm: 'qemu 0', host_vmm: 'qemu 1' },
  });
  expect(host.held()).toEqual([0, 0, 0, 0]);
});

test.each([
  ['it was given', 'b'.repeat(64)],
  ['its host made', undefined],
])('a VM has the secret that %s, and keeps it where it goes on from a snapshot', async (_what, accessToken) => {
  const vms = host.table();
  const wanted = { ...bootSpec(), ...(accessToken && { accessToken }) };
  await vms.create(wanted, caller);
  const of = () => vms.running(wanted.sandboxId).facts.accessToken;
  expect(of()).toBe(accessToken ?? host.token);
  await takeSnapshot(vms, host.snapshots, wanted.sandboxId, orderOf(true), caller);
  expect(of()).toBe(accessToken ?? host.token);
});

test('a live snapshot asked for again is no success when the VM did not go on from it', async () => {
  const { vms, wanted } = await host.runningVm();
  const order = orderOf(true);
  host.vmm.failure = new WrennError('VMM_START_FAILED', 'it does not start');
  const take = () => takeSnapshot(vms, host.snapshots, wanted.sandboxId, order, caller);
  await expect(take()).rejects.toMatchObject({ reason: 'VMM_START_FAILED' });
  await expect(take()).rejects.toMatchObject({ reason: 'SANDBOX_NOT_FOUND' });
  expect(host.snapshots.staged.has(order.snapshotId)).toBe(true);
  expect(host.held()).toEqual([0, 0, 0, 0]);
});

import { WrennError } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import { beforeEach, expect, test, vi } from 'vitest';

import { FakeBulk } from '../../test/fakes.ts';
import { FakeHost, bootSpec, caller, orderOf, restoreSpec } from '../../test/fake-host.ts';
import { takeSnapshot } from './take-snapshot.ts';

let host: FakeHost;

const failure = new WrennError('NO_SLOT_LEFT', 'none');

beforeEach(() => {
  host = new FakeHost();
});

test('makes a VM, tells its stages and lists it as running', async () => {
  const vms = host.table();
  const { stages } = await vms.create(bootSpec(), caller);
  expect(stages.map(({ stage }) => stage).toSorted()).toEqual([
    ...['boot', 'disk', 'init', 'journal', 'journal', 'network', 'vmm'],
  ]);
  expect(vms.list().map(({ state }) => state.name)).toEqual(['running']);
  expect([...host.journal.records.values()].map(({ phase }) => phase)).toEqual(['running']);
});

test('refuses a second VM for one sandbox and leaves the first alone', async () => {
  const { vms, wanted } = await host.runningVm();
  await expect(vms.create(wanted, caller)).rejects.toMatchObject({ reason: 'VM_EXISTS' });
  expect(vms.running(wanted.sandboxId).facts.guestAddress).toBe('10.11.0.1');
});

test.each([
  ['the network', () => (host.slots.failure = failure)],
  ['the disk', () => (host.disks.failure = failure)],
  ['the VMM', () => (host.vmm.failure = failure)],
  ['the agent', () => (host.agent.initFailure = failure)],
])('leaves nothing behind when %s fails, not even what a failed call had made', async (_what, breakIt) => {
  breakIt();
  const vms = host.table();
  await expect(vms.create(bootSpec(), caller)).rejects.toBe(failure);
  expect(host.held()).toEqual([0, 0, 0, 0]);
  expect(vms.list()).toEqual([]);
});

test.each([
  ['its console', true, '"last words"'],
  ['a word on its console, if it stands still', false, '"no console: it gives none"'],
])('starts a guest that does not get ready once more, then gives up with %s', async (_what, isHealthy, console) => {
  vi.useFakeTimers();
  try {
    host.agent.isListening = false;
    host.vmm.startsHealthy = isHealthy;
    const vms = host.table();
    const creation = vms.create(bootSpec(), caller);
    const outcome = expect(creation).rejects.toMatchObject({
      reason: 'GUEST_NOT_READY',
      meta: { console },
    });
    await vi.advanceTimersByTimeAsync(90_000);
    await outcome;
    expect(host.vmm.startCount).toBe(2);
    expect(host.held()).toEqual([0, 0, 0, 0]);
  } finally {
    vi.useRealTimers();
  }
});

test('a guest that stops while it boots fails the create at once', async () => {
  host.agent.isListening = false;
  const vms = host.table();
  const wanted = bootSpec();
  const creation = vms.create(wanted, caller);
  await vi.waitFor(() => expect(host.vmm.running.size).toBe(1));
  host.machineOf(wanted.sandboxId).die({ reason: 'GUEST_SHUTDOWN', message: 'panic' });
  await expect(creation).rejects.toMatchObject({ reason: 'VMM_START_FAILED' });
  expect(host.held()).toEqual([0, 0, 0, 0]);
});

test('a destroy makes a create in progress give up and waits for its undo', async () => {
  host.agent.isListening = false;
  const vms = host.table();
  const wanted = bootSpec();
  const outcome = expect(vms.create(wanted, caller)).rejects.toMatchObject({ reason: 'CANCELLED' });
  await vi.waitFor(() => expect(host.vmm.running.size).toBe(1));
  await vms.destroy(wanted.sandboxId);
  expect(host.held()).toEqual([0, 0, 0, 0]);
  await outcome;
});

test('two destroys at once both succeed, and an unknown sandbox is a success', async () => {
  const { vms, wanted } = await host.runningVm();
  await Promise.all([vms.destroy(wanted.sandboxId), vms.destroy(wanted.sandboxId)]);
  await vms.destroy(newSandboxId());
  expect(host.held()).toEqual([0, 0, 0, 0]);
  expect(host.agent.isClosed).toBe(true);
  expect(vms.list()).toEqual([]);
});

test('keeps listing what could not be released until a later destroy succeeds', async () => {
  const { vms, wanted } = await host.runningVm();
  host.slots.releaseFailure = new Error('network down');
  await expect(vms.destroy(wanted.sandboxId)).rejects.toThrow();
  expect(vms.list()[0]?.state).toMatchObject({ name: 'dead', death: { reason: 'RELEASE_FAILED' } });
  host.slots.releaseFailure = undefined;
  await vms.destroy(wanted.sandboxId);
  expect(host.held()).toEqual([0, 0, 0, 0]);
});

test('an adopted VM keeps its access token', async () => {
  const wanted = bootSpec();
  await host.table().create(wanted, caller);
  host.bulk = new FakeBulk();
  const after = host.table();
  await after.adopt();
  expect(after.running(wanted.sandboxId).facts.accessToken).toBe(host.token);
  expect(host.bulk.guests.size).toBe(1);
});

test('a new life adopts running VMs and releases half-made ones and strays', async () => {
  const [survivor, halfMade, stray, lost] = [bootSpec(), newSandboxId(), newSandboxId(), bootSpec()];
  const before = host.table();
  await before.create(survivor, caller);
  await before.create(lost, caller);
  host.vmm.running.delete(lost.sandboxId);
  await host.journal.write({ sandboxId: halfMade, createdAtMs: 1, phase: 'starting' });
  await host.slots.lease(halfMade);
  await host.disks.create({ sandboxId: stray });
  const after = host.table();
  await after.adopt();
  expect(after.running(survivor.sandboxId).facts.guestAddress).toBe('10.11.0.1');
  await vi.waitFor(() => expect(host.held()).toEqual([1, 1, 1, 1]));
  expect(after.list().map(({ sandboxId, state }) => [sandboxId, state.name])).toEqual([
    [survivor.sandboxId, 'running'],
  ]);
});

test('a new life serves running VMs though its peers are down, and releases the rest once they are back', async () => {
  const [survivor, halfMade, stray] = [bootSpec(), newSandboxId(), newSandboxId()];
  await host.table().create(survivor, caller);
  await host.journal.write({ sandboxId: halfMade, createdAtMs: 1, phase: 'starting' });
  await host.disks.create({ sandboxId: stray });
  host.slots.listFailure = host.slots.releaseFailure = new WrennError(
    'SERVICE_UNAVAILABLE',
    'the network service is down',
  );
  const after = host.table();
  await after.adopt();
  expect(after.running(survivor.sandboxId).facts.guestAddress).toBe('10.11.0.1');
  await vi.waitFor(() =>
    expect(after.list().find(({ sandboxId }) => sandboxId === halfMade)?.state).toMatchObject({
      death: { reason: 'RELEASE_FAILED' },
    }),
  );
  host.slots.listFailure = host.slots.releaseFailure = undefined;
  await vi.waitFor(() => expect(host.disks.made.has(stray)).toBe(false), 5000);
  await after.destroy(halfMade);
  expect(host.held()).toEqual([1, 1, 1, 1]);
  after.close();
});

test('a resume that comes while the paused VM is still being released waits for that', async () => {
  const { vms, wanted } = await host.runningVm();
  const order = orderOf(false);
  const { sandboxId } = wanted;
  await vms.snapshot(sandboxId, order, caller);
  await vms.create(restoreSpec(wanted, order.snapshotId), caller);
  expect(vms.list().map(({ state }) => state.name)).toEqual(['running']);
  expect(host.held()).toEqual([1, 1, 1, 1]);
  expect(host.vmm.launches.at(-1)?.restore?.memorySource).toBe('map');
});

test('a VM whose host dies while it goes on from its snapshot goes on from it in the next life', async () => {
  const before = host.table();
  const wanted = bootSpec();
  await before.create(wanted, caller);
  const order = orderOf(true);
  const { sandboxId } = wanted;
  const started = vi.spyOn(host.vmm, 'start').mockImplementationOnce(() => new Promise(() => {}));
  void before.snapshot(sandboxId, order, caller);
  await vi.waitFor(() => expect(started).toHaveBeenCalled());
  expect(host.journal.records.get(sandboxId)).toMatchObject({ phase: 'frozen', order });
  before.close();
  // Of a VMM that was half made, and of its disk.
  const removed = vi.spyOn(host.disks, 'delete');
  host.snapshots.failures.push(new WrennError('DISK_FULL', 'full'));
  const after = host.table();
  await after.adopt();
  await takeSnapshot(after, host.snapshots, sandboxId, order, caller);
  expect(after.running(sandboxId).facts).toMatchObject({ snapshotId: order.snapshotId });
  expect(removed).toHaveBeenCalledTimes(1);
  expect(host.held()).toEqual([1, 1, 1, 1]);
});

test('a resume releases first what a peer that was away had kept, and says so while it is away', async () => {
  const { vms, wanted } = await host.runningVm();
  const order = orderOf(false);
  const { sandboxId } = wanted;
  const down = new WrennError('SERVICE_UNAVAILABLE', 'down');
  const released = vi.spyOn(host.disks, 'delete').mockRejectedValueOnce(down).mockRejectedValueOnce(down);
  await vms.snapshot(sandboxId, order, caller);
  const resume = () => vms.create(restoreSpec(wanted, order.snapshotId), caller);
  await expect(resume()).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
  await resume();
  expect(released).toHaveBeenCalledTimes(3);
  expect(host.held()).toEqual([1, 1, 1, 1]);
});

test('a resume that comes while the next life releases a paused VM waits for that', async () => {
  const before = host.table();
  const wanted = bootSpec();
  await before.create(wanted, caller);
  before.close();
  const { sandboxId } = wanted;
  const record = host.journal.records.get(sandboxId);
  if (record?.phase !== 'running') throw new Error('it should run');
  const order = orderOf(false);
  await host.journal.write({ sandboxId, createdAtMs: 0, facts: record.facts, phase: 'frozen', order });
  const after = host.table();
  await after.adopt();
  await after.create(restoreSpec(wanted, order.snapshotId), caller);
  expect(host.held()).toEqual([1, 1, 1, 1]);
});

test.each([
  ['stood still goes on', 'freezing', ['running']],
  ['was complete becomes its snapshot', 'frozen', []],
] as const)('after a death in mid-freeze a VM that %s', async (_what, phase, states) => {
  const before = host.table();
  const wanted = bootSpec();
  await before.create(wanted, caller);
  before.close();
  const { sandboxId } = wanted;
  const record = host.journal.records.get(sandboxId);
  if (record?.phase !== 'running') throw new Error('it should run');
  const order = orderOf(false);
  const { facts, createdAtMs } = record;
  await host.journal.write({ sandboxId, createdAtMs, facts, phase, order });
  host.machineOf(sandboxId).isStopped = true;
  const after = host.table();
  await after.adopt();
  await vi.waitFor(() => expect(after.list().map(({ state }) => state.name)).toEqual(states));
  await vi.waitFor(() => expect(host.held()).toEqual(phase === 'frozen' ? [0, 0, 0, 0] : [1, 1, 1, 1]));
  expect(host.snapshots.staged.has(order.snapshotId)).toBe(phase === 'frozen');
  if (phase === 'freezing') expect(host.machineOf(sandboxId).isStopped).toBe(false);
});

import { setImmediate } from 'node:timers/promises';

import { systemClock } from '@wrenn/kit/clock';
import { WrennError } from '@wrenn/kit/errors';
import { type SandboxId, newSandboxId, newSnapshotId } from '@wrenn/kit/ids';
import { openLog } from '@wrenn/kit/log';
import { beforeEach, expect, test, vi } from 'vitest';

import {
  FakeAgent,
  FakeBulk,
  FakeConsoles,
  FakeDisks,
  FakeJournal,
  type FakeMachine,
  FakeSlots,
  FakeSnapshots,
  FakeVmm,
} from '../../test/fakes.ts';
import { ComingSnapshots } from './coming-snapshots.ts';
import { takeSnapshot } from './take-snapshot.ts';
import type { BootSpec } from './vm.ts';
import { VmTable } from './vm-table.ts';

const caller = { signal: new AbortController().signal, deadlineAtMs: Infinity };

function spec(): BootSpec {
  const sizes = { vcpuCount: 1, memoryBytes: 2 ** 28, diskBytes: 2 ** 30 };
  return {
    kind: 'boot',
    sandboxId: newSandboxId(),
    template: 'minimal',
    image: 'minimal',
    ...sizes,
    env: {},
    defaultUser: '',
  };
}

let slots: FakeSlots;
let disks: FakeDisks;
let vmm: FakeVmm;
let journal: FakeJournal;
let agent: FakeAgent;
let bulk: FakeBulk;
let snapshots: FakeSnapshots;
let consoles: FakeConsoles;
const token = 'a'.repeat(64);

let coming: ComingSnapshots; // As the table that was made last has them.

function table(): VmTable {
  coming = new ComingSnapshots(snapshots);
  return new VmTable({
    slots,
    disks,
    snapshots: coming,
    vmm,
    journal,
    agents: { dial: () => agent },
    log: openLog('test', 'silent'),
    clock: systemClock,
    bulk,
    consoles,
    newAccessToken: () => token,
    watchdogTimes: { pauseMs: 5, lookMs: 5, roundMs: 5, rounds: 2 },
  });
}

const held = () => [slots.leased.size, disks.made.size, vmm.running.size, journal.records.size];

beforeEach(() => {
  slots = new FakeSlots();
  disks = new FakeDisks();
  vmm = new FakeVmm();
  journal = new FakeJournal();
  agent = new FakeAgent();
  bulk = new FakeBulk();
  snapshots = new FakeSnapshots(disks);
  consoles = new FakeConsoles();
});

test('makes a VM, tells its stages and lists it as running', async () => {
  const vms = table();
  const { stages } = await vms.create(spec(), caller);
  expect(stages.map(({ stage }) => stage).toSorted()).toEqual([
    ...['boot', 'disk', 'init', 'journal', 'journal', 'network', 'vmm'],
  ]);
  expect(vms.list().map(({ state }) => state.name)).toEqual(['running']);
  expect([...journal.records.values()].map(({ phase }) => phase)).toEqual(['running']);
});

test('refuses a second VM for one sandbox and leaves the first alone', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  await expect(vms.create(wanted, caller)).rejects.toMatchObject({ reason: 'VM_EXISTS' });
  expect(vms.running(wanted.sandboxId).facts.guestAddress).toBe('10.11.0.1');
});

const failure = new WrennError('NO_SLOT_LEFT', 'none');
test.each([
  ['the network', () => (slots.failure = failure)],
  ['the disk', () => (disks.failure = failure)],
  ['the VMM', () => (vmm.failure = failure)],
  ['the agent', () => (agent.initFailure = failure)],
])('leaves nothing behind when %s fails, not even what a failed call had made', async (_what, breakIt) => {
  breakIt();
  const vms = table();
  await expect(vms.create(spec(), caller)).rejects.toBe(failure);
  expect(held()).toEqual([0, 0, 0, 0]);
  expect(vms.list()).toEqual([]);
});

test.each([
  ['its console', true, '"last words"'],
  ['a word on its console, if it stands still', false, '"no console: it gives none"'],
])('starts a guest that does not get ready once more, then gives up with %s', async (_what, isHealthy, console) => {
  vi.useFakeTimers();
  try {
    agent.isListening = false;
    vmm.startsHealthy = isHealthy;
    const vms = table();
    const creation = vms.create(spec(), caller);
    const outcome = expect(creation).rejects.toMatchObject({
      reason: 'GUEST_NOT_READY',
      meta: { console },
    });
    await vi.advanceTimersByTimeAsync(90_000);
    await outcome;
    expect(vmm.startCount).toBe(2);
    expect(held()).toEqual([0, 0, 0, 0]);
  } finally {
    vi.useRealTimers();
  }
});

test('a guest that stops while it boots fails the create at once', async () => {
  agent.isListening = false;
  const vms = table();
  const wanted = spec();
  const creation = vms.create(wanted, caller);
  await vi.waitFor(() => expect(vmm.running.size).toBe(1));
  vmm.running.get(wanted.sandboxId)!.die({ reason: 'GUEST_SHUTDOWN', message: 'panic' });
  await expect(creation).rejects.toMatchObject({ reason: 'VMM_START_FAILED' });
  expect(held()).toEqual([0, 0, 0, 0]);
});

test('a destroy makes a create in progress give up and waits for its undo', async () => {
  agent.isListening = false;
  const vms = table();
  const wanted = spec();
  const outcome = expect(vms.create(wanted, caller)).rejects.toMatchObject({ reason: 'CANCELLED' });
  await vi.waitFor(() => expect(vmm.running.size).toBe(1));
  await vms.destroy(wanted.sandboxId);
  expect(held()).toEqual([0, 0, 0, 0]);
  await outcome;
});

test('two destroys at once both succeed, and an unknown sandbox is a success', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  await Promise.all([vms.destroy(wanted.sandboxId), vms.destroy(wanted.sandboxId)]);
  await vms.destroy(newSandboxId());
  expect(held()).toEqual([0, 0, 0, 0]);
  expect(agent.isClosed).toBe(true);
  expect(vms.list()).toEqual([]);
});

test('keeps listing what could not be released until a later destroy succeeds', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  slots.releaseFailure = new Error('network down');
  await expect(vms.destroy(wanted.sandboxId)).rejects.toThrow();
  expect(vms.list()[0]?.state).toMatchObject({ name: 'dead', death: { reason: 'RELEASE_FAILED' } });
  slots.releaseFailure = undefined;
  await vms.destroy(wanted.sandboxId);
  expect(held()).toEqual([0, 0, 0, 0]);
});

test('tells of a VM that died why, cuts its calls and takes its last words', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  expect(consoles.watched.has(wanted.sandboxId)).toBe(true);
  vmm.running.get(wanted.sandboxId)!.die({ reason: 'VMM_DIED', message: 'killed' });
  await vi.waitFor(() => expect(agent.isClosed).toBe(true));
  expect(() => vms.running(wanted.sandboxId)).toThrow('killed');
  expect(consoles.watched.has(wanted.sandboxId)).toBe(false);
});

test('the bulk thread knows a sandbox from the moment it runs until it dies or is destroyed', async () => {
  const vms = table();
  const [dying, destroyed] = [spec(), spec()];
  for (const wanted of [dying, destroyed]) await vms.create(wanted, caller);
  expect(bulk.guests.get(dying.sandboxId)).toBe(`10.11.0.1 ${token}`);
  vmm.running.get(dying.sandboxId)!.die({ reason: 'VMM_DIED', message: 'killed' });
  await vi.waitFor(() => expect(bulk.guests.has(dying.sandboxId)).toBe(false));
  await vms.destroy(destroyed.sandboxId);
  expect(bulk.guests.size).toBe(0);
});

test('a VMM that gives no sign, nor its guest, is dead; one sign is enough to live', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const state = () => vms.list()[0]!.state;
  const machine = vmm.running.get(wanted.sandboxId)!;
  machine.isHealthy = false;
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(state().name).toBe('running');
  agent.isHealthy = false;
  await vi.waitFor(() => expect(state()).toMatchObject({ name: 'dead', death: { reason: 'VMM_STUCK' } }));
  expect([agent.isClosed, bulk.guests.size]).toEqual([true, 0]);
  await vms.destroy(wanted.sandboxId);
  expect(held()).toEqual([0, 0, 0, 0]);
});

test('an adopted VM keeps its access token', async () => {
  const wanted = spec();
  await table().create(wanted, caller);
  bulk = new FakeBulk();
  snapshots = new FakeSnapshots(disks);
  const after = table();
  await after.adopt();
  expect(after.running(wanted.sandboxId).facts.accessToken).toBe(token);
  expect(bulk.guests.size).toBe(1);
});

test('a new life adopts running VMs and releases half-made ones and strays', async () => {
  const [survivor, halfMade, stray, lost] = [spec(), newSandboxId(), newSandboxId(), spec()];
  const before = table();
  await before.create(survivor, caller);
  await before.create(lost, caller);
  vmm.running.delete(lost.sandboxId);
  await journal.write({ sandboxId: halfMade, createdAtMs: 1, phase: 'starting' });
  await slots.lease(halfMade);
  await disks.create({ sandboxId: stray });
  const after = table();
  await after.adopt();
  expect(after.running(survivor.sandboxId).facts.guestAddress).toBe('10.11.0.1');
  await vi.waitFor(() => expect(held()).toEqual([1, 1, 1, 1]));
  expect(after.list().map(({ sandboxId, state }) => [sandboxId, state.name])).toEqual([
    [survivor.sandboxId, 'running'],
  ]);
});

test('a new life serves running VMs though its peers are down, and releases the rest once they are back', async () => {
  const [survivor, halfMade, stray] = [spec(), newSandboxId(), newSandboxId()];
  await table().create(survivor, caller);
  await journal.write({ sandboxId: halfMade, createdAtMs: 1, phase: 'starting' });
  await disks.create({ sandboxId: stray });
  slots.listFailure = slots.releaseFailure = new WrennError('SERVICE_UNAVAILABLE', 'the network service is down');
  const after = table();
  await after.adopt();
  expect(after.running(survivor.sandboxId).facts.guestAddress).toBe('10.11.0.1');
  await vi.waitFor(() =>
    expect(after.list().find(({ sandboxId }) => sandboxId === halfMade)?.state).toMatchObject({
      death: { reason: 'RELEASE_FAILED' },
    }),
  );
  slots.listFailure = slots.releaseFailure = undefined;
  await vi.waitFor(() => expect(disks.made.has(stray)).toBe(false), 5000);
  await after.destroy(halfMade);
  expect(held()).toEqual([1, 1, 1, 1]);
  after.close();
});

const orderOf = (keepRunning: boolean) => ({ snapshotId: newSnapshotId(), keepRunning });
const machineOf = (sandboxId: SandboxId) => vmm.running.get(sandboxId)!;

test('a paused VM is gone from the host, and becomes a snapshot that has what it was made of', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const order = orderOf(false);
  const { stages } = await vms.snapshot(wanted.sandboxId, order, caller);
  expect(stages.map(({ stage }) => stage)).toEqual(['drain', 'prepare', 'quiesce', 'journal']);
  expect(agent.isQuiet).toBe(true);
  expect(vms.list()).toEqual([]);
  await vi.waitFor(() => expect(agent.closedFor).toBe('SANDBOX_PAUSED'));
  expect(await coming.get(order.snapshotId, false, caller)).toMatchObject({ sandboxId: wanted.sandboxId });
  await vi.waitFor(() => expect(held()).toEqual([0, 0, 0, 0]));
  await vi.waitFor(() => expect(() => vms.running(wanted.sandboxId)).toThrow('no VM'));
  expect(snapshots.staged.get(order.snapshotId)).toMatchObject({
    parentId: undefined,
    machine: { ...vmm.madeOf, vcpuCount: 1, memoryBytes: 2 ** 28 },
  });
});

test('files on their way are cut only after they were waited for', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const drained = Promise.withResolvers<number>();
  agent.drain = () => drained.promise;
  const paused = vms.snapshot(wanted.sandboxId, orderOf(false), caller);
  await setImmediate();
  expect([bulk.guests.size, agent.isQuiet]).toEqual([1, false]);
  drained.resolve(1);
  await paused;
  expect([bulk.guests.size, agent.isQuiet]).toEqual([0, true]);
});

test('an agent that cannot wait for files does not keep a pause up', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  agent.drain = () => Promise.reject(failure);
  await vms.snapshot(wanted.sandboxId, orderOf(false), caller);
  expect(vms.list()).toEqual([]);
});

test('a pause does not wait for the end of what it killed, but its slot does', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const end = vmm.holdEnds();
  await vms.snapshot(wanted.sandboxId, orderOf(false), caller);
  expect(vmm.struck).toEqual([]);
  await vi.waitFor(() => expect(vmm.struck).toEqual([machineOf(wanted.sandboxId).processes]));
  expect([...slots.leased]).toEqual([wanted.sandboxId]);
  end();
  await vi.waitFor(() => expect(held()).toEqual([0, 0, 0, 0]));
});

test('a VM that goes on does so once what it was has ended', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const end = vmm.holdEnds();
  const order = orderOf(true);
  const frozen = vms.snapshot(wanted.sandboxId, order, caller);
  await vi.waitFor(() => expect(snapshots.opened).toEqual([order.snapshotId]));
  expect(vmm.startCount).toBe(1);
  end();
  const { stages } = await frozen;
  expect(stages.map(({ stage }) => stage)).toContain('kill');
  expect(vmm.startCount).toBe(2);
});

test('a snapshot that keeps its VM running restores it from itself, in its own slot', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const order = orderOf(true);
  await vms.snapshot(wanted.sandboxId, order, caller);
  expect(vms.running(wanted.sandboxId).facts).toMatchObject({ snapshotId: order.snapshotId });
  expect(agent.isQuiet).toBe(false);
  expect(held()).toEqual([1, 1, 1, 1]);
  const next = orderOf(false);
  await vms.snapshot(wanted.sandboxId, next, caller);
  await coming.get(next.snapshotId, false, caller);
  expect(snapshots.staged.get(next.snapshotId)?.parentId).toBe(order.snapshotId);
});

test.each([
  ['the guest does not stand still', () => (agent.quiesceFailure = failure)],
  ['the VMM does not save', (machine: FakeMachine) => (machine.freezeFailure = failure)],
])('when %s the VM runs on as before', async (_what, breakIt) => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const machine = machineOf(wanted.sandboxId);
  breakIt(machine);
  await expect(vms.snapshot(wanted.sandboxId, orderOf(false), caller)).rejects.toBe(failure);
  expect(vms.running(wanted.sandboxId).machine).toBe(machine);
  expect([machine.isStopped, agent.isQuiet, agent.isClosed]).toEqual([false, false, false]);
  expect([...journal.records.values()].map(({ phase }) => phase)).toEqual(['running']);
  expect(snapshots.staged.size).toBe(0);
});

test('a VM that could not be frozen, and stands still, is not served until it goes on', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const { sandboxId } = wanted;
  const machine = machineOf(sandboxId);
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
  expect([machine.isStopped, agent.isQuiet, bulk.guests.has(sandboxId)]).toEqual([false, false, true]);
  expect([...journal.records.values()].map(({ phase }) => phase)).toEqual(['running']);
});

test.each(['before', 'after'])('a VM that gives no sign from %s its freeze on is found stuck', async (when) => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const machine = machineOf(wanted.sandboxId);
  const stand = Promise.withResolvers<void>();
  machine.whileFreezing = () => stand.promise;
  machine.freezeFailure = machine.goOnFailure = new WrennError('VMM_STUCK', 'no answer');
  const paused = vms.snapshot(wanted.sandboxId, orderOf(false), caller).catch((error: unknown) => error);
  const silence = () => (machine.isHealthy = agent.isHealthy = false);
  if (when === 'before') silence();
  // Longer than the watchdog takes.
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(vms.list()[0]?.state.name).toBe('freezing');
  silence();
  stand.resolve();
  await vi.waitFor(() => expect(vms.list()[0]?.state).toMatchObject({ name: 'dead', death: { reason: 'VMM_STUCK' } }));
  expect(await paused).toMatchObject({ reason: 'VMM_STUCK' });
  await vms.destroy(wanted.sandboxId);
  expect(held()).toEqual([0, 0, 0, 0]);
});

test('a VM that was destroyed while it did not go on is released', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const machine = machineOf(wanted.sandboxId);
  machine.freezeFailure = machine.goOnFailure = new WrennError('VMM_STUCK', 'no answer');
  const paused = vms.snapshot(wanted.sandboxId, orderOf(false), caller).catch((error: unknown) => error);
  await vi.waitFor(() => expect(vms.list()[0]?.state.name).toBe('thawing'));
  await vms.destroy(wanted.sandboxId);
  expect(held()).toEqual([0, 0, 0, 0]);
  expect(await paused).toMatchObject({ reason: 'VMM_STUCK' });
  await vms.create(wanted, caller);
  expect(held()).toEqual([1, 1, 1, 1]);
});

test('a VM that ends while it is frozen is told as that', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const machine = machineOf(wanted.sandboxId);
  machine.freezeFailure = machine.goOnFailure = new WrennError('VMM_DIED', 'it ended');
  machine.die({ reason: 'VMM_DIED', message: 'it ended' });
  await expect(vms.snapshot(wanted.sandboxId, orderOf(true), caller)).rejects.toMatchObject({ reason: 'VMM_DIED' });
  await vi.waitFor(() => expect(vms.list()[0]?.state.name).toBe('dead'));
});

test('a VM that ends before it goes on from a snapshot did not start', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const order = orderOf(false);
  const { sandboxId, template, env, defaultUser } = wanted;
  await takeSnapshot(vms, coming, sandboxId, order, caller);
  vmm.goOnFailure = new WrennError('VMM_DIED', 'it ended');
  const resumed = { kind: 'restore', sandboxId, template, env, defaultUser, snapshotId: order.snapshotId } as const;
  await expect(vms.create(resumed, caller)).rejects.toMatchObject({ reason: 'VMM_START_FAILED' });
  expect(held()).toEqual([0, 0, 0, 0]);
});

test('a store that is away is not waited for by a pause, but by what needs the snapshot', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  snapshots.failures.push(new WrennError('SERVICE_UNAVAILABLE', 'down'), new WrennError('DEADLINE_EXCEEDED', 'slow'));
  const order = orderOf(false);
  const { sandboxId, template, env, defaultUser } = wanted;
  await vms.snapshot(sandboxId, order, caller);
  expect(vms.list()).toEqual([]);
  expect(snapshots.staged.size).toBe(0);
  const origin = { kind: 'restore', template, env, defaultUser, snapshotId: order.snapshotId } as const;
  const child = newSandboxId();
  const again = takeSnapshot(vms, coming, sandboxId, order, caller);
  await Promise.all([vms.create({ ...origin, sandboxId: child }, caller), again]);
  expect(snapshots.staged.has(order.snapshotId)).toBe(true);
  await vms.create({ ...origin, sandboxId }, caller);
  expect(vms.list().map(({ state }) => state.name)).toEqual(['running', 'running']);
});

test('a frozen VM that the store refuses for good is told as dead', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  snapshots.failures.push(new WrennError('SOURCE_NOT_FOUND', 'its files are gone'));
  const order = orderOf(false);
  await vms.snapshot(wanted.sandboxId, order, caller);
  await expect(coming.get(order.snapshotId, false, caller)).rejects.toMatchObject({ reason: 'SNAPSHOT_NOT_FOUND' });
  expect(vms.list().map(({ state }) => state)).toEqual([
    { name: 'dead', death: { reason: 'FREEZE_FAILED', message: 'its files are gone' } },
  ]);
  await vms.destroy(wanted.sandboxId);
  expect(held()).toEqual([0, 0, 0, 0]);
});

test('a paused VM that is destroyed before the store has it leaves nothing', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const order = orderOf(false);
  snapshots.failures.push(...Array.from({ length: 9 }, () => new WrennError('SERVICE_UNAVAILABLE', 'down')));
  await vms.snapshot(wanted.sandboxId, order, caller);
  await vms.destroy(wanted.sandboxId);
  await coming.delete(order.snapshotId, caller);
  expect([held(), vms.list(), snapshots.staged.size]).toEqual([[0, 0, 0, 0], [], 0]);
});

test('a VM that is to go on waits for a store that is away, and takes no disk that was half made', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const deleted = vi.spyOn(disks, 'delete');
  vi.spyOn(snapshots, 'open').mockRejectedValueOnce(new WrennError('SERVICE_UNAVAILABLE', 'cut off'));
  await vms.snapshot(wanted.sandboxId, orderOf(true), caller);
  expect(vms.list().map(({ state }) => state.name)).toEqual(['running']);
  expect(deleted).toHaveBeenCalledTimes(1);
});

test('calls on a VM that is being paused are refused before they begin, and so is a second freeze', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const frozen = vms.snapshot(wanted.sandboxId, orderOf(false), caller);
  await expect(vms.serving(wanted.sandboxId)).rejects.toMatchObject({ reason: 'SANDBOX_NOT_RUNNING' });
  const second = vms.snapshot(wanted.sandboxId, orderOf(false), caller);
  await expect(second).rejects.toMatchObject({ reason: 'SANDBOX_NOT_RUNNING' });
  await frozen;
});

test('calls on a VM that is frozen to go on wait until it does', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const frozen = vms.snapshot(wanted.sandboxId, orderOf(true), caller);
  const { agent } = await vms.serving(wanted.sandboxId);
  expect(vms.running(wanted.sandboxId).agent).toBe(agent);
  await frozen;
});

test('a resume that comes while the paused VM is still being released waits for that', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const order = orderOf(false);
  const { sandboxId, template, env, defaultUser } = wanted;
  await vms.snapshot(sandboxId, order, caller);
  await vms.create({ kind: 'restore', sandboxId, template, env, defaultUser, snapshotId: order.snapshotId }, caller);
  expect(vms.list().map(({ state }) => state.name)).toEqual(['running']);
  expect(held()).toEqual([1, 1, 1, 1]);
  expect(vmm.launches.at(-1)?.restore?.memorySource).toBe('map');
});

test('a snapshot made on another VMM is refused by name, and leaves nothing', async () => {
  const vms = table();
  const { sandboxId, template, env, defaultUser } = spec();
  const snapshotId = newSnapshotId();
  const machine = { ...vmm.madeOf, vmm: 'qemu 0', vcpuCount: 1, memoryBytes: 2 ** 28 };
  snapshots.staged.set(snapshotId, {
    snapshotId,
    sandboxId,
    parentId: undefined,
    frozenDirectory: '',
    machine,
    template,
  });
  const restored = vms.create({ kind: 'restore', sandboxId, template, env, defaultUser, snapshotId }, caller);
  await expect(restored).rejects.toMatchObject({
    reason: 'SNAPSHOT_INCOMPATIBLE',
    meta: { snapshot_vmm: 'qemu 0', host_vmm: 'qemu 1' },
  });
  expect(held()).toEqual([0, 0, 0, 0]);
});

test('a VM whose host dies while it goes on from its snapshot goes on from it in the next life', async () => {
  const before = table();
  const wanted = spec();
  await before.create(wanted, caller);
  const order = orderOf(true);
  const { sandboxId } = wanted;
  const started = vi.spyOn(vmm, 'start').mockImplementationOnce(() => new Promise(() => {}));
  void before.snapshot(sandboxId, order, caller);
  await vi.waitFor(() => expect(started).toHaveBeenCalled());
  expect(journal.records.get(sandboxId)).toMatchObject({ phase: 'frozen', order });
  before.close();
  // Of a VMM that was half made, and of its disk.
  const removed = vi.spyOn(disks, 'delete');
  snapshots.failures.push(new WrennError('DISK_FULL', 'full'));
  const after = table();
  await after.adopt();
  await takeSnapshot(after, snapshots, sandboxId, order, caller);
  expect(after.running(sandboxId).facts).toMatchObject({ snapshotId: order.snapshotId });
  expect(removed).toHaveBeenCalledTimes(1);
  expect(held()).toEqual([1, 1, 1, 1]);
});

test.each([
  ['it was given', 'b'.repeat(64)],
  ['its host made', undefined],
])('a VM has the secret that %s, and keeps it where it goes on from a snapshot', async (_what, accessToken) => {
  const vms = table();
  const wanted = { ...spec(), ...(accessToken && { accessToken }) };
  await vms.create(wanted, caller);
  const of = () => vms.running(wanted.sandboxId).facts.accessToken;
  expect(of()).toBe(accessToken ?? token);
  await takeSnapshot(vms, snapshots, wanted.sandboxId, orderOf(true), caller);
  expect(of()).toBe(accessToken ?? token);
});

test('a live snapshot asked for again is no success when the VM did not go on from it', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const order = orderOf(true);
  vmm.failure = new WrennError('VMM_START_FAILED', 'it does not start');
  const take = () => takeSnapshot(vms, snapshots, wanted.sandboxId, order, caller);
  await expect(take()).rejects.toMatchObject({ reason: 'VMM_START_FAILED' });
  await expect(take()).rejects.toMatchObject({ reason: 'SANDBOX_NOT_FOUND' });
  expect(snapshots.staged.has(order.snapshotId)).toBe(true);
  expect(held()).toEqual([0, 0, 0, 0]);
});

test('a resume releases first what a peer that was away had kept, and says so while it is away', async () => {
  const vms = table();
  const wanted = spec();
  await vms.create(wanted, caller);
  const order = orderOf(false);
  const { sandboxId, template, env, defaultUser } = wanted;
  const down = new WrennError('SERVICE_UNAVAILABLE', 'down');
  const released = vi.spyOn(disks, 'delete').mockRejectedValueOnce(down).mockRejectedValueOnce(down);
  await vms.snapshot(sandboxId, order, caller);
  const resume = () =>
    vms.create({ kind: 'restore', sandboxId, template, env, defaultUser, snapshotId: order.snapshotId }, caller);
  await expect(resume()).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
  await resume();
  expect(released).toHaveBeenCalledTimes(3);
  expect(held()).toEqual([1, 1, 1, 1]);
});

test('a resume that comes while the next life releases a paused VM waits for that', async () => {
  const before = table();
  const wanted = spec();
  await before.create(wanted, caller);
  before.close();
  const { sandboxId, template, env, defaultUser } = wanted;
  const record = journal.records.get(sandboxId);
  if (record?.phase !== 'running') throw new Error('it should run');
  const order = orderOf(false);
  await journal.write({ sandboxId, createdAtMs: 0, facts: record.facts, phase: 'frozen', order });
  const after = table();
  await after.adopt();
  await after.create({ kind: 'restore', sandboxId, template, env, defaultUser, snapshotId: order.snapshotId }, caller);
  expect(held()).toEqual([1, 1, 1, 1]);
});

test.each([
  ['stood still goes on', 'freezing', ['running']],
  ['was complete becomes its snapshot', 'frozen', []],
] as const)('after a death in mid-freeze a VM that %s', async (_what, phase, states) => {
  const before = table();
  const wanted = spec();
  await before.create(wanted, caller);
  before.close();
  const { sandboxId } = wanted;
  const record = journal.records.get(sandboxId);
  if (record?.phase !== 'running') throw new Error('it should run');
  const order = orderOf(false);
  const { facts, createdAtMs } = record;
  await journal.write({ sandboxId, createdAtMs, facts, phase, order });
  machineOf(sandboxId).isStopped = true;
  const after = table();
  await after.adopt();
  await vi.waitFor(() => expect(after.list().map(({ state }) => state.name)).toEqual(states));
  await vi.waitFor(() => expect(held()).toEqual(phase === 'frozen' ? [0, 0, 0, 0] : [1, 1, 1, 1]));
  expect(snapshots.staged.has(order.snapshotId)).toBe(phase === 'frozen');
  if (phase === 'freezing') expect(machineOf(sandboxId).isStopped).toBe(false);
});

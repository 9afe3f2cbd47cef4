import { newSandboxId, type SandboxId } from '@wrenn/kit/ids';
import { openLog } from '@wrenn/kit/log';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { FakeNetworks, FakePauses } from '../../test/fake-networks.ts';
import type { Leases } from './lease-book.ts';
import { type Slot, slotAt } from './slot.ts';
import { type LeaseStore, SlotLeases } from './slot-leases.ts';
import { SlotStock } from './slot-stock.ts';

class FakeStore implements LeaseStore {
  saved: Leases = new Map();
  isFull = false;
  async save(current: () => Leases): Promise<void> {
    if (this.isFull) throw new Error('no space left on device');
    this.saved = current();
  }
}

function leasesOf(size: number, adopted: ReadonlyMap<SandboxId, Slot> = new Map()) {
  const log = openLog('test', 'silent');
  const networks = new FakeNetworks();
  const pauses = new FakePauses();
  const store = new FakeStore();
  const stock = new SlotStock({ range: { first: 1, last: size }, readyGoal: 0, networks, log, pause: pauses.pause });
  const held = [...adopted.values()].map((slot) => slot.index);
  stock.add(Array.from({ length: size }, (_, i) => i + 1).filter((index) => !held.includes(index)));
  return { leases: new SlotLeases({ stock, store, adopted, log }), networks, pauses, store };
}

test('gives one owner one slot, however often and however soon it asks', async () => {
  const { leases, networks } = leasesOf(4);
  const owner = newSandboxId();
  const slots = await Promise.all([leases.lease(owner), leases.lease(owner), leases.lease(owner)]);
  expect(new Set([...slots, await leases.lease(owner)].map((slot) => slot.index))).toEqual(new Set([1]));
  expect(networks.buildCount).toBe(1);
});

test('answers a lease only when it is written down', async () => {
  const { leases, store } = leasesOf(2);
  const owner = newSandboxId();
  const slot = await leases.lease(owner);
  expect(store.saved).toEqual(new Map([[owner, slot.index]]));
});

test('gives no lease that cannot be written down, and loses no slot over it', async () => {
  const { leases, store } = leasesOf(1);
  store.isFull = true;
  await expect(leases.lease(newSandboxId())).rejects.toThrow('no space left');
  expect(leases.list().size).toBe(0);
  store.isFull = false;
  expect((await leases.lease(newSandboxId())).index).toBe(1);
});

test('keeps a lease whose end cannot be written down', async () => {
  const { leases, store, networks } = leasesOf(1);
  const owner = newSandboxId();
  await leases.lease(owner);
  store.isFull = true;
  await expect(leases.release(owner)).rejects.toThrow('no space left');
  expect(networks.present.has(1)).toBe(true);
  expect((await leases.lease(owner)).index).toBe(1);
});

test('releases after a lease that is still under way', async () => {
  const { leases, networks } = leasesOf(1);
  const owner = newSandboxId();
  const go = networks.holdBuilds();
  const leased = leases.lease(owner);
  const released = leases.release(owner);
  go();
  await Promise.all([leased, released]);
  expect([leases.list().size, networks.present.size]).toEqual([0, 0]);
});

test('calls it a success to release what is not held', async () => {
  const { leases } = leasesOf(1);
  await expect(leases.release(newSandboxId())).resolves.toBeUndefined();
});

test('takes adopted leases for its own', async () => {
  const owner = newSandboxId();
  const { leases, networks } = leasesOf(2, new Map([[owner, slotAt(2)]]));
  networks.present.add(2);
  expect((await leases.lease(owner)).index).toBe(2);
  await leases.release(owner);
  expect(networks.present.has(2)).toBe(false);
});

test('says so until a released slot is really gone, then reports success', async () => {
  const { leases, networks, pauses } = leasesOf(1);
  const owner = newSandboxId();
  await leases.lease(owner);
  networks.failsToRemove.add(1);
  await expect(leases.release(owner)).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
  await expect(leases.release(owner)).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
  await expect(leases.lease(newSandboxId())).rejects.toMatchObject({ reason: 'NO_SLOT_LEFT' });
  networks.failsToRemove.clear();
  pauses.pass();
  await eventually('the slot is gone', () => networks.present.size === 0);
  await expect(leases.release(owner)).resolves.toBeUndefined();
  await leases.lease(newSandboxId());
});

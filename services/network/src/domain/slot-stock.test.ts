import { openLog } from '@wrenn/kit/log';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { describe, expect, test } from 'vitest';

import { FakeNetworks, FakePauses } from '../../test/fake-networks.ts';
import { indexesOf, slotAt } from './slot.ts';
import { SlotStock } from './slot-stock.ts';

function stockOf(size: number, readyGoal: number, networks = new FakeNetworks()) {
  const range = { first: 1, last: size };
  const pauses = new FakePauses();
  const stock = new SlotStock({ range, readyGoal, networks, log: openLog('test', 'silent'), pause: pauses.pause });
  return { stock, networks, pauses, start: () => stock.add(indexesOf(range)) };
}
const ready = (stock: SlotStock, count: number) => eventually(`${count} ready`, () => stock.readyCount === count);

describe('the pool', () => {
  test('builds ahead up to its goal and not further', async () => {
    const { stock, networks, start } = stockOf(10, 3);
    start();
    await ready(stock, 3);
    await stock.close();
    expect(networks.buildCount).toBe(3);
  });

  test('hands out a ready slot without building, and refills after the answer', async () => {
    const { stock, networks, pauses, start } = stockOf(10, 2);
    start();
    await ready(stock, 2);
    await stock.take();
    expect([stock.readyCount, networks.buildCount]).toEqual([1, 2]);
    pauses.pass();
    await ready(stock, 2);
    expect(networks.buildCount).toBe(3);
  });

  test('builds in line when nothing is ready', async () => {
    const { stock, start } = stockOf(3, 0);
    start();
    expect((await stock.take()).index).toBe(1);
  });

  test('lets a taker have the slot that is being built ahead', async () => {
    const { stock, networks, start } = stockOf(1, 1);
    const go = networks.holdBuilds();
    start();
    const taken = stock.take();
    go();
    expect((await taken).index).toBe(1);
    expect(networks.buildCount).toBe(1);
  });

  test('refuses exactly the takers that no slot is left for, at once, naming the range', async () => {
    const { stock, networks, start } = stockOf(4, 2);
    const go = networks.holdBuilds();
    start();
    const takers = Array.from({ length: 14 }, () => stock.take());
    const outcomes = Promise.allSettled(takers);
    await expect(takers[4]).rejects.toMatchObject({
      reason: 'NO_SLOT_LEFT',
      message: expect.stringContaining('1 to 4'),
    });
    go();
    const taken = (await outcomes).filter((outcome) => outcome.status === 'fulfilled').map(({ value }) => value.index);
    expect(new Set(taken)).toEqual(new Set([1, 2, 3, 4]));
    expect(taken).toHaveLength(4);
  });
});

describe('a build that fails', () => {
  test('tells the taker, leaves nothing behind and frees the slot', async () => {
    const { stock, networks, start } = stockOf(1, 0);
    networks.failsToBuild.add(1);
    start();
    await expect(stock.take()).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
    await eventually('remains removed', () => networks.present.size === 0);
    networks.failsToBuild.clear();
    await eventually('the slot works again', () => stock.take());
  });

  test('makes building ahead wait longer each time, while takers are served still', async () => {
    const { stock, networks, pauses, start } = stockOf(8, 1);
    for (const index of [1, 2, 3]) networks.failsToBuild.add(index);
    start();
    for (const pauseMs of [100, 200, 400]) {
      await eventually(`a pause of ${pauseMs} ms`, () => pauses.asked.at(-1) === pauseMs);
      if (pauseMs < 400) pauses.pass();
    }
    expect((await stock.take()).index).toBe(4);
    expect(networks.buildCount).toBe(4);
  });
});

describe('a slot that cannot be removed', () => {
  test('is never handed out again until it is really gone', async () => {
    const { stock, networks, pauses, start } = stockOf(1, 0);
    start();
    const slot = await stock.take();
    networks.failsToRemove.add(1);
    await expect(stock.retire(slot)).rejects.toThrow('slot 1 is busy');
    await expect(stock.take()).rejects.toMatchObject({ reason: 'NO_SLOT_LEFT' });
    pauses.pass();
    await eventually('a second pause', () => pauses.asked.at(-1) === 200);
    await expect(stock.take()).rejects.toMatchObject({ reason: 'NO_SLOT_LEFT' });
    networks.failsToRemove.clear();
    pauses.pass();
    expect((await eventually('the slot is free', () => stock.take())).index).toBe(1);
  });

  test('does not keep a sweep from the others', async () => {
    const { stock, networks } = stockOf(9, 0);
    for (let index = 1; index <= 9; index += 1) networks.present.add(index);
    networks.failsToRemove.add(2);
    await stock.sweep([...networks.present].map(slotAt));
    expect([...networks.present]).toEqual([2]);
  });
});

describe('closing', () => {
  test('waits for builds under way and removes what nobody took', async () => {
    const { stock, networks, start } = stockOf(8, 3);
    start();
    await ready(stock, 3);
    const taken = await stock.take();
    const go = networks.holdBuilds();
    stock.add([9]);
    await eventually('a build under way', () => networks.present.size === 4);
    const closed = stock.close();
    go();
    await closed;
    expect([...networks.present]).toEqual([taken.index]);
  });

  test('turns waiting takers away', async () => {
    const { stock, networks, start } = stockOf(1, 0);
    const go = networks.holdBuilds();
    start();
    const refused = expect(stock.take()).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
    const closed = stock.close();
    await refused;
    go();
    await closed;
    await expect(stock.take()).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
    expect(networks.present.size).toBe(0);
  });
});

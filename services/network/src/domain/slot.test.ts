import { expect, test } from 'vitest';

import { indexOfName, indexesOf, maxSlotIndex, slotAt } from './slot.ts';

test('gives every slot its own names, addresses and user', () => {
  expect(slotAt(1)).toEqual({
    index: 1,
    namespace: 'wrenn-ns-1',
    hostLink: 'wrenn-v-1',
    hostAddress: '10.12.0.2',
    innerAddress: '10.12.0.3',
    guestAddress: '10.11.0.1',
    vmmUid: 200_001,
  });
  const last = slotAt(maxSlotIndex);
  expect([last.hostAddress, last.innerAddress, last.guestAddress]).toEqual([
    '10.12.255.254',
    '10.12.255.255',
    '10.11.127.255',
  ]);
  const addresses = indexesOf({ first: 1, last: maxSlotIndex })
    .map(slotAt)
    .flatMap((slot) => [slot.hostAddress, slot.innerAddress, slot.guestAddress]);
  expect(new Set(addresses).size).toBe(3 * maxSlotIndex);
});

test('keeps link names within what the kernel takes', () => {
  expect(slotAt(maxSlotIndex).hostLink.length).toBeLessThanOrEqual(15);
});

test('refuses an index that has no address', () => {
  for (const index of [0, -1, 1.5, maxSlotIndex + 1, Number.NaN]) expect(() => slotAt(index)).toThrow(RangeError);
});

test('knows its own names from those of others', () => {
  expect(indexOfName('wrenn-ns-20000')).toBe(20_000);
  expect(indexOfName('wrenn-v-7')).toBe(7);
  const others = [
    'wrenn-ns-0',
    'wrenn-ns-07',
    'wrenn-ns-32768',
    'wrenn-ns-1x',
    'my-wrenn-ns-1',
    'wrenn-test-1',
    'eth0',
  ];
  for (const name of others) expect(indexOfName(name), name).toBeUndefined();
});

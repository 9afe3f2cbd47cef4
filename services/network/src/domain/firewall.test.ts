import { BlockList } from 'node:net';

import { expect, test } from 'vitest';

import { closedDestinations, hostRules, slotRules } from './firewall.ts';
import { slotAt } from './slot.ts';

const closed = new BlockList();
for (const range of closedDestinations) {
  const [network = '', bits] = range.split('/');
  closed.addSubnet(network, Number(bits));
}

test.each([
  ['this host', '127.0.0.1'],
  ['no host', '0.0.0.0'],
  ['cloud metadata', '169.254.169.254'],
  ['the other guests', slotAt(2).guestAddress],
  ['the host side of a slot', slotAt(32_767).hostAddress],
  ['private networks', '10.255.255.255'],
  ['private networks', '172.16.0.1'],
  ['private networks', '172.31.255.255'],
  ['private networks', '192.168.1.1'],
  ['carrier-grade NAT', '100.64.0.1'],
  ['carrier-grade NAT', '100.127.255.255'],
  ['benchmarks', '198.19.255.255'],
  ['documentation', '192.0.2.1'],
  ['multicast', '224.0.0.251'],
  ['class E', '240.0.0.1'],
  ['broadcast', '255.255.255.255'],
])('closes %s: %s', (_what, address) => {
  expect(closed.check(address)).toBe(true);
});

test.each([
  '1.1.1.1',
  '8.8.8.8',
  '9.255.255.255',
  '11.0.0.0',
  '100.63.255.255',
  '172.32.0.0',
  '192.169.0.0',
  '223.255.255.255',
])('leaves the internet open: %s', (address) => {
  expect(closed.check(address)).toBe(false);
});

test('names the links of its own range and no others', () => {
  const names = [...hostRules({ first: 5, last: 7 }).matchAll(/"(wrenn-v-\d+)"/g)].map(([, name]) => name);
  expect(names).toEqual(['wrenn-v-5', 'wrenn-v-6', 'wrenn-v-7']);
});

test('what a guest sends beyond its limit is dropped before any other rule sees it', () => {
  const rules = slotRules(slotAt(5), { bytesPerSecond: 209_715_200, burstBytes: 104_857_600 });
  const hooks = rules.split('chain ').filter((chain) => chain.includes('hook prerouting priority raw'));
  expect(hooks).toHaveLength(1);
  expect(hooks[0]?.split('\n')[2]?.trim()).toBe(
    'iifname "tap0" limit rate over 209715200 bytes/second burst 104857600 bytes counter drop',
  );
});

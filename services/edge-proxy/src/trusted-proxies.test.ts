import { expect, test } from 'vitest';

import { trustedProxies } from './trusted-proxies.ts';

test('trusts the addresses and networks that are named, and nobody else', () => {
  const isTrusted = trustedProxies('192.0.2.7, 10.1.0.0/16,fd00::/8');
  for (const address of ['192.0.2.7', '10.1.255.255', 'fd12::1'])
    expect([address, isTrusted(address)]).toEqual([address, true]);
  for (const address of ['192.0.2.8', '10.2.0.1', 'fe80::1', '', 'x']) {
    expect([address, isTrusted(address)]).toEqual([address, false]);
  }
  expect(trustedProxies('')('127.0.0.1')).toBe(false);
});

test.each(['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', 'proxy.example', '10.0.0', 'fd00::/x'])('refuses %s', (text) => {
  expect(() => trustedProxies(text)).toThrow();
});

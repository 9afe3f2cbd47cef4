import { expect, test } from 'vitest';

import { readNetworkConfig } from './config.ts';

test('needs no variable at all', () => {
  expect(readNetworkConfig({})).toEqual({
    logLevel: 'info',
    listen: 'unix:/run/wrenn/network.sock',
    stateDir: '/var/lib/wrenn/network',
    firstSlot: 1,
    lastSlot: 1000,
    poolSize: 4,
    sendBytesPerSecond: 209_715_200,
    sendBurstBytes: 104_857_600,
  });
});

test('refuses a slot that has no address, naming the variable', () => {
  expect(() => readNetworkConfig({ WRENN_LAST_SLOT: '32768' })).toThrow('WRENN_LAST_SLOT: must be 1 to 32767');
  expect(() => readNetworkConfig({ WRENN_FIRST_SLOT: '0' })).toThrow('WRENN_FIRST_SLOT: must be 1 to 32767');
});

test('refuses a range that ends before it begins', () => {
  expect(() => readNetworkConfig({ WRENN_FIRST_SLOT: '8', WRENN_LAST_SLOT: '7' })).toThrow('WRENN_LAST_SLOT');
});

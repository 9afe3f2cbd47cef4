import { expect, test } from 'vitest';
import { z } from 'zod';

import { ConfigError, absolutePath, commonShape, readConfig, rpcAddress, variableOf, wholeNumber } from './config.ts';

const shape = {
  ...commonShape,
  listen: rpcAddress(),
  dataDir: absolutePath(),
  poolSize: wholeNumber(0, 64),
  note: z.string().optional(),
};
const good = { WRENN_LISTEN: '127.0.0.1:1', WRENN_DATA_DIR: '/d', WRENN_POOL_SIZE: '4' };

test('a complete environment becomes one frozen object', () => {
  const config = readConfig(shape, { ...good, PATH: '/bin' });
  expect(config).toEqual({ logLevel: 'info', listen: '127.0.0.1:1', dataDir: '/d', poolSize: 4 });
  expect(Object.isFrozen(config)).toBe(true);
});

test('every missing, bad and unknown variable is reported at once', () => {
  const read = () =>
    readConfig(shape, {
      WRENN_DATA_DIR: 'relative',
      WRENN_POOL_SIZE: '65',
      WRENN_POOLSIZE: '1',
      WRENN_LOG_LEVEL: 'loud',
    });
  expect(read).toThrow(ConfigError);
  for (const variable of [
    'WRENN_LISTEN: must be set',
    'WRENN_DATA_DIR: must be',
    'WRENN_POOL_SIZE: must be',
    'WRENN_POOLSIZE: unknown',
    'WRENN_LOG_LEVEL',
  ]) {
    expect(read).toThrow(variable);
  }
});

test.each(['', ' 4', '4 ', '-1', '4.0', '0x4', '1e1', '４'])('%j is no whole number', (text) => {
  expect(() => readConfig(shape, { ...good, WRENN_POOL_SIZE: text })).toThrow('WRENN_POOL_SIZE');
});

test.each(['localhost', ':1', 'unix:', 'unix:relative', 'http://a:1', 'a b:1', 'a:123456'])(
  '%j is no address',
  (text) => {
    expect(() => readConfig(shape, { ...good, WRENN_LISTEN: text })).toThrow('WRENN_LISTEN');
  },
);

test('a field reads the variable of its name', () => {
  expect(variableOf('createTimeoutMs')).toBe('WRENN_CREATE_TIMEOUT_MS');
});

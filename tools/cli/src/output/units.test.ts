import { describe, expect, test } from 'vitest';

import { UsageError } from '../exit-codes.ts';
import { formatAge, formatBytes, formatMs, parseBytes, parseCount, parseMs, parsePairs } from './units.ts';

describe('sizes', () => {
  test.each([
    ['0', 0n],
    ['4096', 4096n],
    ['512M', 536_870_912n],
    ['1g', 1_073_741_824n],
    ['2GiB', 2_147_483_648n],
    ['1T', 1_099_511_627_776n],
  ])('reads %s', (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  test.each(['', '-1', '1.5G', '10X', 'G', '1 G', '0x10'])('refuses %j', (text) => {
    expect(() => parseBytes(text)).toThrow(UsageError);
  });

  test('are shown in the largest unit that fits', () => {
    expect([formatBytes(512n * 2n ** 20n), formatBytes(1.5 * 2 ** 30), formatBytes(7)]).toEqual([
      '512 MiB',
      '1.5 GiB',
      '7 B',
    ]);
  });
});

describe('times', () => {
  test.each([
    ['250ms', 250],
    ['90s', 90_000],
    ['10m', 600_000],
    ['1h30m', 5_400_000],
  ])('reads %s', (text, ms) => {
    expect(parseMs(text)).toBe(ms);
  });

  test.each(['', '10', '5x', '-3s', '1.5s', 's'])('refuses %j', (text) => {
    expect(() => parseMs(text)).toThrow(UsageError);
  });

  test('are shown as precisely as one cares', () => {
    expect([formatMs(0.123), formatMs(4.56), formatMs(250), formatMs(2345)]).toEqual([
      '0.12 ms',
      '4.6 ms',
      '250 ms',
      '2.35 s',
    ]);
    expect([0, 59_400, 3_900_000, 90_061_000, 86_400_000 + 3_120_000].map(formatAge)).toEqual([
      ...['0s', '59s', '1h 5m', '1d 1h', '1d'],
    ]);
  });
});

test('pairs keep every `=` of the value', () => {
  expect(parsePairs(['A=1', 'B=x=y', 'C='], '--env')).toEqual({ A: '1', B: 'x=y', C: '' });
  expect(() => parsePairs(['A'], '--env')).toThrow('--env A: write it as NAME=value');
  expect(() => parsePairs(['=x'], '--env')).toThrow(UsageError);
});

test('counts outside their bounds are refused by the name of their option', () => {
  expect(parseCount('8', '--cpu', 1, 32)).toBe(8);
  for (const text of ['0', '33', 'two', '1e1', '']) {
    expect(() => parseCount(text, '--cpu', 1, 32)).toThrow('--cpu must be 1 to 32');
  }
});

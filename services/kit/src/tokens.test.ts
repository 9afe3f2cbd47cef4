import { expect, test } from 'vitest';

import { isAccessToken, isTrafficToken, newAccessToken, newTrafficToken } from './tokens.ts';

test('a traffic token leaves room in a DNS label for port and id, and is the same in any case', () => {
  const token = newTrafficToken();
  expect(isTrafficToken(token)).toBe(true);
  expect(`65535-cl-${'0'.repeat(25)}-${token}`.length).toBeLessThanOrEqual(63);
  expect(token.toLowerCase()).toBe(token);
});

test('a thousand tokens are all different and all valid', () => {
  const tokens = Array.from({ length: 1000 }, () => [newTrafficToken(), newAccessToken()]);
  expect(new Set(tokens.flat()).size).toBe(2000);
  expect(tokens.every(([traffic = '', access = '']) => isTrafficToken(traffic) && isAccessToken(access))).toBe(true);
});

test.each(['', 'a'.repeat(24), 'a'.repeat(26), 'A'.repeat(25), `${'a'.repeat(24)}-`, `${'a'.repeat(25)}\n`])(
  '%j is no traffic token',
  (text) => expect(isTrafficToken(text)).toBe(false),
);

test.each(['', 'a'.repeat(31), 'a'.repeat(129), `${'a'.repeat(31)} `, `${'a'.repeat(32)}\n`])(
  '%j is no access token',
  (text) => expect(isAccessToken(text)).toBe(false),
);

import { createHash } from 'node:crypto';

import { expect, test } from 'vitest';

import { signedUrl } from './signed-url.ts';

const grant = {
  edgeUrl: 'http://edge:9480',
  sandboxId: 'cl-0123456789abcdefghijklmnz',
  path: '/tmp/a b&c=d/é',
  user: 'nobody',
  operation: 'read',
  expiresAtS: 1_900_000_000,
  accessToken: 'secret',
} as const;

test('is what E2B clients compute, and survives any path', () => {
  const url = new URL(signedUrl(grant));
  const hash = createHash('sha256').update('/tmp/a b&c=d/é:read:nobody:secret:1900000000').digest('base64');
  expect(url.pathname).toBe(`/proxy/${grant.sandboxId}/49983/files`);
  expect(Object.fromEntries(url.searchParams)).toEqual({
    path: grant.path,
    username: 'nobody',
    signature: `v1_${hash.slice(0, -1)}`,
    signature_expiration: '1900000000',
  });
});

test('names no user where none is meant, and never holds the token', () => {
  const url = signedUrl({ ...grant, user: '' });
  expect(url).not.toContain('username');
  expect(url).not.toContain('secret');
});

test('another path, operation, user, time or token is another signature', () => {
  const changes = [
    {},
    { path: '/x' },
    { operation: 'write' as const },
    { user: '' },
    { expiresAtS: 1 },
    { accessToken: 'x' },
  ];
  const signatures = changes.map((change) => new URL(signedUrl({ ...grant, ...change })).searchParams.get('signature'));
  expect(new Set(signatures).size).toBe(changes.length);
});

import { expect, test } from 'vitest';

import { readEdgeConfig } from './config.ts';

test('needs nothing on one machine', () => {
  const { hops, hopListen, hostId } = readEdgeConfig({});
  expect([hops.size, hopListen, hostId]).toEqual([0, undefined, undefined]);
});

test('knows the edges of other hosts', () => {
  const { hops } = readEdgeConfig({
    WRENN_HOPS: 'host-a=10.0.0.5:9481,host-b=edge.b.example:9481',
    WRENN_HOP_SECRET_FILE: '/etc/wrenn/hop',
  });
  expect([...hops]).toEqual([
    ['host-a', '10.0.0.5:9481'],
    ['host-b', 'edge.b.example:9481'],
  ]);
});

test.each([
  [{ WRENN_HOPS: 'host-a' }, 'WRENN_HOPS: must be a list'],
  [{ WRENN_HOPS: 'host-a=10.0.0.5' }, 'WRENN_HOPS: must be a list'],
  [{ WRENN_HOPS: 'host-a=10.0.0.5:9481' }, 'WRENN_HOP_SECRET_FILE'],
  [{ WRENN_HOP_SECRET_FILE: '/etc/wrenn/hop' }, 'WRENN_HOP_SECRET_FILE'],
  [{ WRENN_HOP_LISTEN: '10.0.0.5:9481', WRENN_HOP_SECRET_FILE: '/etc/wrenn/hop' }, 'WRENN_HOST_ID'],
])('refuses %j', (env, message) => {
  expect(() => readEdgeConfig(env)).toThrow(message);
});

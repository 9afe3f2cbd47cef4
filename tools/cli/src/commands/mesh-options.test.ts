import { expect, test } from 'vitest';

import { readCliConfig } from '../config.ts';
import { UsageError } from '../exit-codes.ts';
import { meshOptionsOf } from './mesh-options.ts';

const config = readCliConfig({});

test('without flags the mesh lives where the environment says', () => {
  const options = meshOptionsOf(
    {},
    { config: readCliConfig({ WRENN_RUN_DIR: '/run/a', DATABASE_URL: 'postgres://x' }), env: {} },
  );
  expect(options).toMatchObject({ runDir: '/run/a', dataDir: '/var/lib/wrenn', databaseUrl: 'postgres://x' });
  expect(options.ports).toMatchObject({
    gateway: 9470,
    scheduler: 9471,
    vmRuntime: 9472,
    vmRuntimeBulk: 9473,
    gatewayBulk: 9474,
    edgeProxy: 9480,
    traceIntake: 9475,
    traces: 9476,
  });
});

test('flags win, and the slot range is always a range', () => {
  const options = meshOptionsOf({ runDir: '/run/b', portBase: '12000', firstSlot: '2000' }, { config, env: {} });
  expect(options).toMatchObject({ runDir: '/run/b', firstSlot: 2000, lastSlot: 2000 });
  expect(options.ports.edgeProxy).toBe(12_010);
});

test.each([
  [{ runDir: 'relative' }, '--run-dir must be an absolute path'],
  [{ firstSlot: '0' }, '--first-slot must be 1 to 32767'],
  [{ firstSlot: '9', lastSlot: '8' }, '--last-slot must be 9 to 32767'],
  [{ logLevel: 'loud' }, '--log-level must be one of'],
  [{ portBase: '80' }, '--port-base must be 1024 to 65000'],
])('refuses %j as wrong usage', (flags, message) => {
  expect(() => meshOptionsOf(flags, { config, env: {} })).toThrow(UsageError);
  expect(() => meshOptionsOf(flags, { config, env: {} })).toThrow(message);
});

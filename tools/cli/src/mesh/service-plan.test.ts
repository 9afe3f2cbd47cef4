import { expect, test } from 'vitest';

import { passingBytes } from './heap-flags.ts';
import { type MeshOptions, addressesOf, keepsTraces, portsFrom, ramDirFor } from './options.ts';
import { inheritedEnv, planServices } from './service-plan.ts';

const options: MeshOptions = {
  runDir: '/run/x',
  dataDir: '/var/x',
  ramDir: '/dev/shm/x',
  imagesDir: '/images',
  firstSlot: 5,
  lastSlot: 9,
  poolSize: 2,
  ports: portsFrom(9470),
  logLevel: 'info',
  keepsTraces: false,
};

const everybodys = ['WRENN_ADMIN_LISTEN', 'WRENN_LISTEN', 'WRENN_LOG_LEVEL', 'WRENN_METRICS_LISTEN'];

test('each service gets its own variables and no other’s', () => {
  const names = Object.fromEntries(planServices(options).map(({ name, env }) => [name, Object.keys(env).sort()]));
  expect(names['gateway']).toEqual([...everybodys, 'WRENN_SCHEDULER'].sort());
  expect(names['gateway-bulk']).toEqual(names['gateway']);
  expect(names['scheduler']).toEqual([...everybodys, 'WRENN_DATABASE_URL_FILE'].sort());
  expect(names['vm-runtime']).not.toContain('WRENN_FIRST_SLOT');
  expect(names['network']).not.toContain('WRENN_DATABASE_URL_FILE');
});

test('no two processes of a mesh share an address', () => {
  const { metrics, ...rest } = addressesOf(options);
  const all = [...Object.values(rest), ...Object.values(metrics)];
  expect(new Set(all).size).toBe(all.length);
});

test('services start after those they call', () => {
  const stages = Object.fromEntries(planServices(options).map(({ name, stage }) => [name, stage]));
  for (const callee of ['network', 'snapshot-store', 'scheduler']) {
    expect(stages[callee]).toBeLessThan(stages['vm-runtime'] ?? 0);
  }
  expect(stages['scheduler']).toBeLessThan(stages['gateway'] ?? 0);
});

test('what commands pass through comes before guests, and bytes in number after them', () => {
  const precedence = Object.fromEntries(planServices(options).map((plan) => [plan.name, plan.precedence]));
  expect(precedence).toMatchObject({ gateway: 'commands', 'vm-runtime': 'commands', 'gateway-bulk': 'bytes' });
});

test('the heaps of those that pass bytes on are kept for that', () => {
  const kept = planServices(options).filter(({ nodeFlags }) => nodeFlags === passingBytes);
  expect(kept.map(({ name }) => name).sort()).toEqual(['gateway', 'gateway-bulk', 'vm-runtime']);
});

test('no variable of the caller reaches a service, save those that find programs and collectors', () => {
  const env = { PATH: '/bin', HOME: '/root', WRENN_GATEWAY: 'x', DATABASE_URL: 'secret', OTEL_SERVICE_NAME: 'y' };
  expect(inheritedEnv(env)).toEqual({ PATH: '/bin', HOME: '/root', OTEL_SERVICE_NAME: 'y' });
});

test('two run directories never share guest memory', () => {
  expect(ramDirFor('/run/wrenn')).toBe('/dev/shm/wrenn');
  expect(ramDirFor('/run/a')).not.toBe(ramDirFor('/run/b'));
});

test('with nobody else to take traces they go to the keeper, which sends none itself', () => {
  expect(keepsTraces({})).toBe(true);
  for (const name of ['OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']) {
    expect(keepsTraces({ [name]: 'http://collector:4318' })).toBe(false);
  }
  expect(keepsTraces({ OTEL_SDK_DISABLED: 'true' })).toBe(false);
  const plans = planServices({ ...options, keepsTraces: true });
  const endpoints = Object.fromEntries(plans.map(({ name, env }) => [name, env['OTEL_EXPORTER_OTLP_ENDPOINT']]));
  expect(endpoints).toMatchObject({ 'vm-runtime': 'http://127.0.0.1:9475', 'trace-keeper': undefined });
  expect(planServices(options).map(({ name }) => name)).not.toContain('trace-keeper');
});

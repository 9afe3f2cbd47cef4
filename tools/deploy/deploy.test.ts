// What deploy/ has for Prometheus and Grafana, held against Prometheus' own tool and against the code. That every
// metric in it is one that a mesh really tells is tested where a mesh runs (tools/e2e/test/observability.test.ts).
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { defaultPortBase, portsFrom } from '@wrenn/cli/mesh/options';
import { OperationTimes } from '@wrenn/kit/metrics/operation-times';
import { renderMetrics } from '@wrenn/kit/metrics/exposition';
import { measureProcess } from '@wrenn/kit/metrics/process-metrics';
import { Metrics } from '@wrenn/kit/metrics/registry';
import { expect, test } from 'vitest';

import { dashboardJson, dashboards, dashboardsDir } from './dashboards.ts';

const root = join(import.meta.dirname, '../..');
const promtool = join(root, '.build/bin/promtool');
const configDir = join(root, 'deploy/prometheus');
const read = (path: string) => readFileSync(join(root, path), 'utf8');

test('promtool accepts what a process tells', async () => {
  const metrics = new Metrics();
  measureProcess(metrics);
  const times = new OperationTimes(metrics, 'scheduler');
  await times.time('create', async () => ({ timings: [{ stage: 'boot', duration: { seconds: 1n, nanos: 0 } }] }));
  const input = renderMetrics(await metrics.collect(), 'prometheus');
  const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], { input, encoding: 'utf8' });
  expect([status, stdout, stderr]).toEqual([0, '', '']);
});

test('promtool accepts configuration and rules, and each alert goes off when it should', () => {
  const run = (...args: string[]) => execFileSync(promtool, args, { cwd: configDir, encoding: 'utf8', stdio: 'pipe' });
  expect(run('check', 'config', 'prometheus.yml')).toContain('1 rule files found');
  expect(run('test', 'rules', 'alerts.test.yml')).toContain('SUCCESS');
  const alerts = namesOf(read('deploy/prometheus/alerts.yml'));
  const tried = read('deploy/prometheus/alerts.test.yml').matchAll(/alertname: (\w+)/g);
  expect(new Set([...tried].map(([, name]) => name))).toEqual(new Set(alerts));
});

test('each alert has a line that leads to its part of the runbook', () => {
  const rules = read('deploy/prometheus/alerts.yml');
  const parts = [...read('docs/runbook.md').matchAll(/^## (\w+)$/gm)].map(([, name]) => name);
  const alerts = namesOf(rules);
  expect(parts).toEqual(alerts);
  const links = [...rules.matchAll(/runbook: docs\/runbook\.md#(\w+)/g)].map(([, anchor]) => anchor);
  expect(links).toEqual(alerts.map((name) => name.toLowerCase()));
});

test('Prometheus looks where a mesh tells its figures', () => {
  const config = read('deploy/prometheus/prometheus.yml');
  const found = config.matchAll(/targets: \['127\.0\.0\.1:(\d+)'\]\s+labels: \{ service: ([\w-]+) \}/g);
  const ports = Object.fromEntries(Array.from(found, ([, port, service]) => [service, Number(port)]));
  expect(ports).toEqual(portsFrom(defaultPortBase).metrics);
});

test.each(Object.entries(dashboards))('%s.json is what the code makes', (name, spec) => {
  expect(readFileSync(join(dashboardsDir, `${name}.json`), 'utf8')).toBe(dashboardJson(spec));
});

function namesOf(rules: string): string[] {
  return [...rules.matchAll(/- alert: (\w+)/g)].map(([, name]) => name ?? '');
}

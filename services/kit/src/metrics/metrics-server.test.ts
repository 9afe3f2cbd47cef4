import { expect, test } from 'vitest';

import { MetricsServer } from './metrics-server.ts';
import { measureProcess } from './process-metrics.ts';
import { Metrics } from './registry.ts';

async function serve(metrics: Metrics, isServing = () => true) {
  const server = new MetricsServer(metrics, isServing);
  const port = await server.listen('127.0.0.1:0');
  return {
    get: (path: string, init?: RequestInit) => fetch(`http://127.0.0.1:${port}${path}`, init),
    [Symbol.asyncDispose]: () => server.close(),
  };
}

test.each([
  [undefined, 'text/plain'],
  ['text/plain', 'text/plain'],
  ['application/openmetrics-text', 'application/openmetrics-text'],
  [
    'application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
    'application/openmetrics-text',
  ],
  ['application/openmetrics-text;q=0.2,text/plain;q=0.5', 'text/plain'],
  ['text/html', 'text/plain'],
])('a scraper that accepts %s gets %s', async (accept, type) => {
  await using server = await serve(new Metrics());
  const response = await server.get('/metrics', { headers: accept ? { accept } : {} });
  expect(response.headers.get('content-type')).toMatch(`${type}; version=`);
  expect((await response.text()).endsWith('# EOF\n')).toBe(type !== 'text/plain');
});

test('health follows the service, and nothing else is served', async () => {
  let isServing = false;
  await using server = await serve(new Metrics(), () => isServing);
  expect((await server.get('/healthz')).status).toBe(503);
  isServing = true;
  expect((await server.get('/healthz')).status).toBe(200);
  expect((await server.get('/')).status).toBe(404);
  expect((await server.get('/metrics', { method: 'POST', body: 'x' })).status).toBe(405);
});

test('a process tells its processor time, memory, descriptors and age', async () => {
  const metrics = new Metrics();
  measureProcess(metrics);
  await using server = await serve(metrics);
  const text = await (await server.get('/metrics')).text();
  for (const name of ['cpu_seconds_total', 'resident_memory_bytes', 'open_fds', 'max_fds', 'start_time_seconds']) {
    expect(Number(new RegExp(`^process_${name} (.+)$`, 'm').exec(text)?.[1])).toBeGreaterThan(0);
  }
});

import { TraceFlags } from '@opentelemetry/api';
import { expect, test } from 'vitest';

import { renderMetrics } from './exposition.ts';
import { Metrics, labelled } from './registry.ts';

const readFailures = /^# (HELP|TYPE|EOF).*read_failures.*\n/gm;
const span = { traceId: 'ab'.repeat(16), spanId: 'cd'.repeat(8), traceFlags: TraceFlags.SAMPLED };

async function text(metrics: Metrics, format: 'prometheus' | 'openmetrics' = 'prometheus'): Promise<string> {
  return renderMetrics(await metrics.collect(), format).replaceAll(readFailures, '');
}

test('counters, gauges and histograms are written as Prometheus reads them', async () => {
  const metrics = new Metrics();
  const calls = metrics.counter({ name: 'wrenn_x_calls_total', help: 'Calls.', labels: ['outcome'] });
  calls.add(2, { outcome: 'ok' });
  calls.add(1, { outcome: 'say "no"\n' });
  metrics.gauge({ name: 'wrenn_x_open', help: 'Open.' }).set(-3);
  const times = metrics.histogram({ name: 'wrenn_x_call_seconds', help: 'Time.', labels: ['lane'] }, [0.1, 1]);
  for (const value of [0.1, 0.5, 0.5, 7]) times.observe(value, { lane: 'bulk' });
  expect(await text(metrics)).toBe(`# HELP wrenn_x_calls_total Calls.
# TYPE wrenn_x_calls_total counter
wrenn_x_calls_total{outcome="ok"} 2
wrenn_x_calls_total{outcome="say \\"no\\"\\n"} 1
# HELP wrenn_x_open Open.
# TYPE wrenn_x_open gauge
wrenn_x_open -3
# HELP wrenn_x_call_seconds Time.
# TYPE wrenn_x_call_seconds histogram
wrenn_x_call_seconds_bucket{lane="bulk",le="0.1"} 1
wrenn_x_call_seconds_bucket{lane="bulk",le="1"} 3
wrenn_x_call_seconds_bucket{lane="bulk",le="+Inf"} 4
wrenn_x_call_seconds_sum{lane="bulk"} 8.1
wrenn_x_call_seconds_count{lane="bulk"} 4
`);
});

test('OpenMetrics has units, exemplars of recorded traces only, and an end', async () => {
  const metrics = new Metrics();
  metrics.counter({ name: 'wrenn_x_sent_bytes_total', help: 'Sent.' }).add(5);
  const times = metrics.histogram({ name: 'wrenn_x_call_seconds', help: 'Time.' }, [1]);
  times.with().observe(0.5, span);
  times.with().observe(2, { ...span, traceFlags: TraceFlags.NONE });
  const lines = (await text(metrics, 'openmetrics')).split('\n');
  expect(lines).toContain('# TYPE wrenn_x_sent_bytes counter');
  expect(lines).toContain('# UNIT wrenn_x_sent_bytes bytes');
  expect(lines).toContain('wrenn_x_sent_bytes_total 5');
  const bucket = new RegExp(
    `^wrenn_x_call_seconds_bucket{le="1.0"} 1 # {trace_id="${span.traceId}"} 0.5 \\d+(\\.\\d+)?$`,
  );
  expect(lines.filter((line) => bucket.test(line))).toHaveLength(1);
  expect(lines).toContain('wrenn_x_call_seconds_bucket{le="+Inf"} 2');
  expect(lines.slice(-2)).toEqual(['# EOF', '']);
  expect(await text(metrics)).not.toContain('trace_id');
});

test('figures are read when they are asked for; one that fails costs no other and is counted', async () => {
  const metrics = new Metrics();
  let open = 1;
  metrics.read('gauge', { name: 'wrenn_x_open', help: 'Open.', labels: ['kind'] }, () => [[open, { kind: 'a' }]]);
  metrics.read('gauge', { name: 'wrenn_x_broken', help: 'Broken.' }, async () => {
    throw new Error('no such file');
  });
  expect(await text(metrics)).toContain('wrenn_x_open{kind="a"} 1');
  open = 7;
  const second = await text(metrics);
  expect(second).toContain('wrenn_x_open{kind="a"} 7');
  expect(second).not.toContain('wrenn_x_broken ');
  expect(second).toContain('wrenn_process_metric_read_failures_total{metric="wrenn_x_broken"} 1');
});

test('what another thread counts joins the family of the same name', async () => {
  const [metrics, thread] = [new Metrics(), new Metrics()];
  for (const [counted, by] of [
    [metrics, 1],
    [thread, 2],
  ] as const) {
    counted.counter({ name: 'wrenn_x_calls_total', help: 'Calls.' }).add(by);
  }
  metrics.include('bulk thread', async () => labelled(await thread.collect(), { thread: 'bulk' }));
  expect((await text(metrics)).match(/.*x_calls.*/g)).toEqual([
    '# HELP wrenn_x_calls_total Calls.',
    '# TYPE wrenn_x_calls_total counter',
    'wrenn_x_calls_total 1',
    'wrenn_x_calls_total{thread="bulk"} 2',
  ]);
});

test('a label that turns out to hold ids costs no more than 500 series', async () => {
  const metrics = new Metrics();
  const calls = metrics.counter({ name: 'wrenn_x_calls_total', help: 'Calls.', labels: ['sandbox'] });
  for (let n = 0; n < 1000; n++) calls.add(1, { sandbox: `cl-${n}` });
  const samples = (await text(metrics)).split('\n').filter((line) => line.startsWith('wrenn_x_calls_total{'));
  expect(samples).toHaveLength(501);
  expect(samples.at(-1)).toBe('wrenn_x_calls_total{sandbox="other"} 500');
});

test('a name that is taken, or says the wrong thing of its type, is refused', () => {
  const metrics = new Metrics();
  metrics.gauge({ name: 'wrenn_x_open', help: 'Open.' });
  expect(() => metrics.gauge({ name: 'wrenn_x_open', help: 'Open.' })).toThrow('twice');
  expect(() => metrics.gauge({ name: 'wrenn_x_open_total', help: 'Open.' })).toThrow('_total');
  expect(() => metrics.counter({ name: 'wrenn_x_opened', help: 'Opened.' })).toThrow('_total');
  expect(() => metrics.counter({ name: 'open_total', help: 'Opened.' })).toThrow('no name');
});

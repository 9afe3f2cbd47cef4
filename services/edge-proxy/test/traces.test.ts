// Whose trace a request belongs to.
import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace';
import { registerTracing } from '@wrenn/kit/telemetry/start';
import { afterEach, expect, test } from 'vitest';

import { trustedProxies } from '../src/trusted-proxies.ts';
import { answering, exchange, startEdge, startGuest } from './edge.ts';

const exporter = new InMemorySpanExporter();
registerTracing('test', new SimpleSpanProcessor({ exporter }));
afterEach(() => exporter.reset());

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const traceparent = `00-${traceId}-00f067aa0ba902b7-01`;
const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n';

const traced = () => exporter.getFinishedSpans().filter((span) => span.spanContext().traceId === traceId);

async function request(isTrusted: (address: string) => boolean, path = ''): Promise<string> {
  await using edge = await startEdge({ isTrusted });
  await using guest = await startGuest(answering(ok));
  const target = `/proxy/${edge.sandboxId}/${guest.port}/${path}`;
  const head = `GET ${target} HTTP/1.1\r\nHost: a\r\nTraceparent: ${traceparent}\r\nConnection: close\r\n\r\n`;
  await exchange(edge.port, head);
  return guest.received();
}

test('a proxy that is trusted puts requests into its own trace, and what is asked for them too', async () => {
  const received = await request(trustedProxies('127.0.0.1'), 'canary');
  const names = traced().map(({ name }) => name);
  expect(names).toContain('reach guest');
  expect(names).toContain('wrenn.scheduler.v1.SchedulerService/FindSandbox');
  const [reached] = traced().filter(({ name }) => name === 'reach guest');
  expect(reached?.parentSpanContext?.spanId).toBe('00f067aa0ba902b7');
  expect(JSON.stringify(traced().map(({ attributes }) => attributes))).not.toContain('canary');
  expect(received).toContain(`Traceparent: ${traceparent}\r\n`);
});

test('nobody else writes into a trace, and what was sent still goes to the guest', async () => {
  const received = await request(trustedProxies('192.0.2.7'));
  expect(traced()).toEqual([]);
  expect(received).toContain(`Traceparent: ${traceparent}\r\n`);
});

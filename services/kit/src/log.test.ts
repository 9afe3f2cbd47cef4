import { spawnSync } from 'node:child_process';

import { expect, test } from 'vitest';

// In a process of its own, because a log writes to its stdout.
function linesOf(code: string): Record<string, unknown>[] {
  const source = `import { openLog } from '${new URL('log.ts', import.meta.url).pathname}';
    import { registerTracing } from '${new URL('telemetry/start.ts', import.meta.url).pathname}';
    import { trace } from '@opentelemetry/api';
    ${code}`;
  const options = { encoding: 'utf8', cwd: new URL('.', import.meta.url).pathname } as const;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', source], options);
  expect(stderr).toBe('');
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

test('a line is one JSON object that says when, how grave, who and what', () => {
  const [line] = linesOf(`openLog('x').warn({ sandbox: 'cl-1' }, 'two\\nlines');`);
  expect(line).toMatchObject({ level: 'warn', service: 'x', msg: 'two\nlines', sandbox: 'cl-1' });
  expect(Date.parse(String(line?.['time']))).toBeGreaterThan(0);
  expect(line).not.toHaveProperty('trace_id');
});

test('what is logged within a span names its trace, and nothing else does', () => {
  const lines = linesOf(`registerTracing('x', { onStart() {}, onEnd() {}, async forceFlush() {}, async shutdown() {} });
    const log = openLog('x');
    trace.getTracer('t').startActiveSpan('s', (span) => { log.info(span.spanContext(), 'inside'); span.end(); });
    log.info('outside');`);
  expect(lines[0]).toMatchObject({ trace_id: lines[0]?.['traceId'], span_id: lines[0]?.['spanId'] });
  expect(String(lines[0]?.['trace_id'])).toMatch(/^[0-9a-f]{32}$/);
  expect(lines[1]).not.toHaveProperty('trace_id');
});

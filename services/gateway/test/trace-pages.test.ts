import { request } from 'node:http';

import { WrennError } from '@wrenn/kit/errors';
import { Lanes } from '@wrenn/kit/lanes';
import { openLog } from '@wrenn/kit/log';
import { serveForTest } from '@wrenn/kit/testkit/serve';
import { TraceService } from '@wrenn/proto/wrenn/v1/trace';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { TracePages } from '../src/adapters/trace-pages.ts';

const traceId = 'a'.repeat(32);
const startTime = { seconds: 1_790_000_000n, nanos: 0 };
const summary = {
  ...{ traceId, startTime, name: '<script>alert(1)</script>', service: 'wrenn-scheduler', spanCount: 1 },
  duration: { seconds: 0n, nanos: 5_000_000 },
  sandboxIds: [`cl-${'0'.repeat(25)}`],
};
const span = {
  ...{
    spanId: 'b'.repeat(16),
    name: 'place "here"',
    service: 'wrenn-scheduler',
    startTime,
    duration: summary.duration,
  },
  attributes: { 'wrenn.reason': '<b>bold</b>' },
  links: [{ traceId: 'c'.repeat(32), spanId: 'd'.repeat(16) }],
};

let server: Awaited<ReturnType<typeof serveForTest>>;
let pages: TracePages;
let port = 0;

beforeAll(async () => {
  server = await serveForTest(TraceService, {
    list: async ({ sandboxId }) => ({ traces: sandboxId === '' ? [summary] : [] }),
    get: async (asked) => {
      if (asked.traceId !== traceId) throw new WrennError('TRACE_NOT_FOUND', `no trace ${asked.traceId} is kept`);
      return { summary, spans: [span] };
    },
  });
  pages = new TracePages(server.lanes.client('control', TraceService), openLog('test', 'silent'));
  port = await pages.listen('127.0.0.1:0');
});

afterAll(async () => {
  await pages.close();
  await server[Symbol.asyncDispose]();
});

function get(path: string, host = `127.0.0.1:${port}`): Promise<{ status: number; text: string; csp: string }> {
  return new Promise((resolve, reject) => {
    request({ port, path, headers: { host } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => {
        const csp = String(response.headers['content-security-policy']);
        resolve({ status: response.statusCode ?? 0, text, csp });
      });
    })
      .on('error', reject)
      .end();
  });
}

test('lists traces and draws one, by itself and without a script', async () => {
  const list = await get('/');
  expect(list.status).toBe(200);
  expect(list.text).toContain(`href="/traces/${traceId}"`);
  const drawn = await get(`/traces/${traceId}`);
  expect(drawn.text).toMatch(/<svg[^>]*><rect /);
  expect(drawn.text).toContain(`href="/traces/${'c'.repeat(32)}"`);
  for (const { text, csp } of [list, drawn]) {
    expect(csp).toContain("default-src 'none'");
    expect(text).not.toMatch(/<script|<b>|src=|https?:/);
    expect(text).toContain('&#60;script&#62;');
  }
});

test('says that a trace is not kept, and knows no other page', async () => {
  expect(await get('/traces/beef')).toMatchObject({ status: 404 });
  expect((await get('/?sandbox=cl-x')).status).toBe(404);
  expect((await get('/etc/passwd')).status).toBe(404);
  expect((await get(`/?sandbox=cl-${'0'.repeat(25)}`)).text).toContain('None is kept yet.');
});

test('says so when the keeper is away', async () => {
  const away = new Lanes('127.0.0.1:1', 'trace keeper');
  const lonely = new TracePages(away.client('control', TraceService), openLog('test', 'silent'));
  const at = await lonely.listen('127.0.0.1:0');
  const answer = await fetch(`http://127.0.0.1:${at}/`);
  expect(answer.status).toBe(503);
  expect(await answer.text()).toContain('trace keeper');
  await lonely.close();
  away.close();
});

test('answers nobody who names this address otherwise, as a page of another site would', async () => {
  expect((await get('/', 'evil.example')).status).toBe(404);
  expect((await get('/', 'localhost')).status).toBe(200);
});

// The waterfall pages over HTTP, for a browser on this machine. A page of another site cannot read them: it would have
// to name this address as its own, and no other name is answered.
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';

import { inMs } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import { isSandboxId } from '@wrenn/kit/ids';
import type { RpcClient } from '@wrenn/kit/lanes';
import { closeHttp, listenAt } from '@wrenn/kit/listen';
import type { Log } from '@wrenn/kit/log';
import type { TraceService } from '@wrenn/proto/wrenn/v1/trace';

import { problemPage, traceListPage, tracePage } from '../domain/trace-page.ts';

type Traces = RpcClient<typeof TraceService.method>;

const askLimitMs = 5000;
const listed = 200;
const hostPattern = /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/;
const headers = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
  'cache-control': 'no-store',
};

export class TracePages {
  readonly #server: Server;
  readonly #log: Log;

  constructor(traces: Traces, log: Log) {
    this.#log = log;
    this.#server = createServer((request, response) => {
      void answer(traces, request, response, log); // Settles every outcome itself.
    });
  }

  // Binds `host:port` and returns the port.
  async listen(address: string): Promise<number> {
    const port = await listenAt(this.#server, address);
    this.#log.info({ address, port }, 'showing traces');
    return port;
  }

  close(): Promise<void> {
    return closeHttp(this.#server);
  }
}

async function answer(traces: Traces, request: IncomingMessage, response: ServerResponse, log: Log): Promise<void> {
  try {
    const page = await pageFor(traces, request);
    response.writeHead(200, headers).end(page);
  } catch (error) {
    if (!(error instanceof WrennError)) log.error({ err: error }, 'a page of traces failed');
    const message = error instanceof WrennError ? error.message : 'internal error';
    response.writeHead(statusOf(error), headers).end(problemPage(message));
  }
}

async function pageFor(traces: Traces, { method, url = '/', headers: sent }: IncomingMessage): Promise<string> {
  if (method !== 'GET' || !hostPattern.test(sent.host ?? '')) throw notHere();
  const { pathname, searchParams } = new URL(url, 'http://localhost');
  const traceId = /^\/traces\/([0-9a-f]{4,32})$/.exec(pathname)?.[1];
  if (traceId !== undefined) return tracePage(await traces.get({ traceId }, inMs(askLimitMs)));
  if (pathname !== '/') throw notHere();
  const sandboxId = searchParams.get('sandbox') ?? '';
  if (sandboxId !== '' && !isSandboxId(sandboxId)) throw notHere();
  const { traces: found } = await traces.list({ sandboxId, limit: listed }, inMs(askLimitMs));
  return traceListPage(found, sandboxId);
}

const notHere = () => new WrennError('TRACE_NOT_FOUND', 'there is no such page');

function statusOf(error: unknown): number {
  if (hasReason(error, 'TRACE_NOT_FOUND', 'INVALID_FIELD')) return 404;
  return error instanceof WrennError ? 503 : 500;
}

// A listener of its own for operators: figures for Prometheus and, for probes that speak no gRPC, health. Nothing of
// a sandbox passes it, and it must not be reachable for those who may not know how busy a host is.
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';

import { closeHttp, listenAt } from '../listen.ts';
import { contentTypes, renderMetrics } from './exposition.ts';
import { formatFor } from './negotiate.ts';
import type { Metrics } from './registry.ts';

export class MetricsServer {
  readonly #metrics: Metrics;
  readonly #isServing: () => boolean;
  readonly #server: Server;

  constructor(metrics: Metrics, isServing: () => boolean) {
    this.#metrics = metrics;
    this.#isServing = isServing;
    this.#server = createServer({ requestTimeout: 5000, keepAliveTimeout: 65_000 }, (request, response) => {
      void this.#answer(request, response); // Never rejects: what cannot be read is left out.
    });
    this.#server.maxConnections = 64;
  }

  // Binds `host:port` and returns the port.
  listen(address: string): Promise<number> {
    return listenAt(this.#server, address);
  }

  close(): Promise<void> {
    return closeHttp(this.#server);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url?.split('?', 1)[0];
    if (request.method !== 'GET' && request.method !== 'HEAD') return answer(response, 405, 'GET or HEAD\n');
    if (path === '/healthz') {
      return this.#isServing() ? answer(response, 200, 'serving\n') : answer(response, 503, 'not serving\n');
    }
    if (path !== '/metrics') return answer(response, 404, 'there are /metrics and /healthz\n');
    const format = formatFor(request.headers.accept);
    answer(response, 200, renderMetrics(await this.#metrics.collect(), format), contentTypes[format]);
  }
}

function answer(response: ServerResponse, status: number, text: string, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

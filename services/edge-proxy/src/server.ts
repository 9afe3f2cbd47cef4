// Accepts HTTP/1.1 connections and gives each an exchange of its own.
import { type Server, type Socket, createServer } from 'node:net';

import type { Log } from '@wrenn/kit/log';

import { type Dial, Exchange } from './exchange.ts';

export interface EdgeOptions {
  readonly dial: Dial;
  readonly domain: string; // Of `{port}-{sandbox id}.{domain}`.
  readonly log: Log;
  readonly headTimeoutMs?: number;
  readonly idleTimeoutMs?: number;
  readonly drainMs?: number;
}

export class EdgeServer {
  readonly #options: EdgeOptions;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();

  constructor(options: EdgeOptions) {
    this.#options = options;
    const exchange = {
      ...options,
      headTimeoutMs: options.headTimeoutMs ?? 10_000,
      // Above the 600 s after which common load balancers give up on a silent server.
      idleTimeoutMs: options.idleTimeoutMs ?? 620_000,
    };
    this.#server = createServer({ allowHalfOpen: true }, (client) => {
      this.#clients.add(client);
      client.once('close', () => this.#clients.delete(client));
      // oxlint-disable-next-line no-new -- It lives by the events of its socket.
      new Exchange(client, exchange);
    });
  }

  get connectionCount(): number {
    return this.#clients.size;
  }

  // Binds `host:port` or `unix:/path` and returns the port.
  async listen(address: string): Promise<number> {
    const colon = address.lastIndexOf(':');
    const where = address.startsWith('unix:')
      ? { path: address.slice('unix:'.length) }
      : { host: address.slice(0, colon).replaceAll(/[[\]]/g, ''), port: Number(address.slice(colon + 1)) };
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(where, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    this.#server.on('error', (error) => this.#options.log.error({ err: error }, 'accepting failed'));
    const bound = this.#server.address();
    const port = bound !== null && typeof bound === 'object' ? bound.port : 0;
    this.#options.log.info({ address, port }, 'serving');
    return port;
  }

  // Accepts no more, lets running exchanges finish for a while, then cuts them.
  async close(): Promise<void> {
    const cut = setTimeout(() => {
      for (const client of this.#clients) client.destroy();
    }, this.#options.drainMs ?? 5000);
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    clearTimeout(cut);
  }
}

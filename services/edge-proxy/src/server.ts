// Accepts HTTP/1.1 connections, as many as there is room for: when there is none, the one that has waited
// longest for its client's next request makes it.
import { type Server, type Socket, createServer } from 'node:net';

import type { SandboxId } from '@wrenn/kit/ids';
import { listenAt } from '@wrenn/kit/listen';
import type { Log } from '@wrenn/kit/log';

import { ClientConnection, type ConnectionOptions } from './client-connection.ts';
import { Refusal, refusalBytes } from './domain/refusal.ts';
import { Shares } from './domain/shares.ts';
import type { IsTrusted } from './trusted-proxies.ts';
import type { Admit, Answered, Guests } from './exchange.ts';
import { FailureLog } from './failure-log.ts';

export interface EdgeOptions {
  readonly guests: Guests;
  readonly admit: Admit;
  readonly domain: string; // Of `{port}-{sandbox id}.{domain}`.
  readonly log: Log;
  readonly isTrusted?: IsTrusted; // Nobody is unless set.
  readonly answered?: Answered;
  readonly headTimeoutMs?: number;
  readonly idleTimeoutMs?: number;
  readonly halfOpenTimeoutMs?: number;
  readonly drainMs?: number;
  readonly maxConnections?: number;
  readonly maxPerSandbox?: number; // Requests at once, WebSockets included.
}

export class EdgeServer {
  readonly #options: EdgeOptions;
  readonly #maxConnections: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #idle = new Set<ClientConnection>(); // The one that has waited longest first.
  readonly #connection: ConnectionOptions;
  readonly #failures: FailureLog;
  readonly #closedTraffic = { receivedBytes: 0, sentBytes: 0 };
  #isClosing = false;

  constructor(options: EdgeOptions) {
    this.#options = options;
    this.#maxConnections = options.maxConnections ?? 10_000;
    this.#failures = new FailureLog(options);
    this.#connection = {
      ...options,
      failures: this.#failures,
      isTrusted: options.isTrusted ?? (() => false),
      headTimeoutMs: options.headTimeoutMs ?? 10_000,
      // Above the 600 s after which common load balancers give up on a silent server.
      idleTimeoutMs: options.idleTimeoutMs ?? 620_000,
      halfOpenTimeoutMs: options.halfOpenTimeoutMs ?? 30_000,
      shares: new Shares<SandboxId>({ perSandbox: options.maxPerSandbox ?? 500, total: this.#maxConnections }),
    };
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  get connectionCount(): number {
    return this.#sockets.size;
  }

  // Of all connections so far.
  get traffic(): { readonly receivedBytes: number; readonly sentBytes: number } {
    const sum = { ...this.#closedTraffic };
    for (const socket of this.#sockets) addTraffic(sum, socket);
    return sum;
  }

  // Binds `host:port` or `unix:/path` and returns the port.
  async listen(address: string): Promise<number> {
    const port = await listenAt(this.#server, address);
    this.#server.on('error', (error) => this.#options.log.error({ err: error }, 'accepting failed'));
    this.#options.log.info({ address, port }, 'serving');
    return port;
  }

  // Accepts no more, lets running exchanges finish for a while, then cuts them.
  async close(): Promise<void> {
    this.#isClosing = true;
    const cut = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, this.#options.drainMs ?? 5000);
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#idle) connection.closeIfIdle();
    await closed;
    clearTimeout(cut);
    this.#failures.close();
  }

  #accept(socket: Socket): void {
    if (this.#sockets.size >= this.#maxConnections && !this.#makeRoom()) {
      socket.on('error', () => socket.destroy());
      socket.end(refusalBytes(new Refusal('EDGE_BUSY', 'too many connections at once')));
      socket.setTimeout(1000, () => socket.destroy());
      return;
    }
    this.#sockets.add(socket);
    const connection = new ClientConnection(socket, this.#connection, {
      idle: () => this.#idle.add(connection),
      busy: () => this.#idle.delete(connection),
      mayKeepAlive: () => !this.#isClosing,
    });
    this.#idle.add(connection);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      addTraffic(this.#closedTraffic, socket);
      this.#idle.delete(connection);
    });
  }

  #makeRoom(): boolean {
    for (const connection of this.#idle) {
      connection.drop();
      return true;
    }
    return false;
  }
}

function addTraffic(sum: { receivedBytes: number; sentBytes: number }, { bytesRead, bytesWritten }: Socket): void {
  sum.receivedBytes += bytesRead;
  sum.sentBytes += bytesWritten;
}

// Takes other edges to ports of this host's guests. Who may reach what is decided where a request comes in: whoever
// has the key is taken to any port. It reads no HTTP but its own, and changes no byte.
import { type Server, type Socket, createServer } from 'node:net';
import { TLSSocket } from 'node:tls';

import type { SandboxId } from '@wrenn/kit/ids';
import { listenAt } from '@wrenn/kit/listen';
import type { Log } from '@wrenn/kit/log';

import { hopContext, keyForServer } from './hop-tls.ts';
import { untilHead } from './until-head.ts';
import { hopRefusal, maxHopHeadBytes, parseHopRequest, reached } from '../domain/hop-words.ts';
import { Refusal } from '../domain/refusal.ts';

// To a port of a sandbox of this host, and of no other.
export type DialHere = (id: SandboxId, port: number, signal: AbortSignal) => Promise<Socket>;

export interface HopOptions {
  readonly dial: DialHere;
  readonly secret: Buffer;
  readonly log: Log;
  readonly askTimeoutMs?: number;
  readonly maxConnections?: number;
}

export class HopServer {
  readonly #options: HopOptions;
  readonly #secureContext = hopContext();
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(options: HopOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, (raw) => this.#accept(raw));
    this.#server.maxConnections = options.maxConnections ?? 10_000;
  }

  // Binds `host:port` and returns the port.
  async listen(address: string): Promise<number> {
    const port = await listenAt(this.#server, address);
    this.#server.on('error', (error) => this.#options.log.error({ err: error }, 'accepting edges failed'));
    this.#options.log.info({ address, port }, 'serving other edges');
    return port;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #accept(raw: Socket): void {
    this.#sockets.add(raw);
    raw.on('error', () => raw.destroy());
    raw.on('close', () => this.#sockets.delete(raw));
    const options = { isServer: true, secureContext: this.#secureContext, ...keyForServer(this.#options.secret) };
    const edge = new TLSSocket(raw, options);
    edge.on('error', () => raw.destroy());
    void this.#serve(raw, edge); // Settles every outcome itself.
  }

  async #serve(raw: Socket, edge: TLSSocket): Promise<void> {
    const left = new AbortController();
    raw.once('close', () => left.abort());
    const late = setTimeout(() => raw.destroy(), this.#options.askTimeoutMs ?? 10_000);
    try {
      const { id, port } = parseHopRequest(await untilHead(edge, maxHopHeadBytes));
      clearTimeout(late);
      splice(raw, edge, await this.#options.dial(id, port, left.signal));
    } catch (error) {
      if (!(error instanceof Refusal)) raw.destroy();
      else edge.end(hopRefusal(error.code, error.message));
    } finally {
      clearTimeout(late);
    }
  }
}

// An end is passed on as one, and what breaks as something that breaks: a body may go on until the end.
function splice(raw: Socket, edge: TLSSocket, guest: Socket): void {
  let hasEnded = false;
  guest.on('end', () => (hasEnded = true));
  guest.on('error', () => raw.resetAndDestroy());
  guest.on('close', () => (hasEnded ? undefined : raw.resetAndDestroy()));
  raw.on('close', () => guest.destroy());
  edge.write(reached);
  edge.pipe(guest);
  guest.pipe(edge);
}

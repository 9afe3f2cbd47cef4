// Reaches ports of guests on other hosts, through the edges there.
import { type ConnectionOptions, type TLSSocket, connect as connectTls } from 'node:tls';

import { hostAndPort } from '@wrenn/kit/listen';

import { hopRequest, maxHopHeadBytes, requireReached, type HopRequest } from '../domain/hop-words.ts';
import { Refusal } from '../domain/refusal.ts';
import { hopContext, keyForClient } from './hop-tls.ts';
import { untilHead } from './until-head.ts';

// Where the edges of other hosts listen for this one, `host:port`, by the ids of their hosts.
export type Hops = ReadonlyMap<string, string>;

// Longer than the other edge tries by itself.
const limitMs = 15_000;

// Node takes it, and its types do not know.
type HalfOpenOptions = ConnectionOptions & { readonly allowHalfOpen: true };

export class HopDialer {
  readonly #hops: Hops;
  readonly #secret: Buffer;
  readonly #secureContext = hopContext();

  constructor(hops: Hops, secret: Buffer) {
    this.#hops = hops;
    this.#secret = secret;
  }

  leadsTo(hostId: string): boolean {
    return this.#hops.has(hostId);
  }

  // To a host that it leads to.
  async dial(hostId: string, request: HopRequest, signal: AbortSignal): Promise<TLSSocket> {
    signal.throwIfAborted();
    const options: HalfOpenOptions = {
      ...hostAndPort(this.#hops.get(hostId)!),
      allowHalfOpen: true,
      secureContext: this.#secureContext,
      ...keyForClient(this.#secret),
      checkServerIdentity: () => undefined, // It has the key, or the handshake fails.
    };
    const socket = connectTls(options);
    socket.setNoDelay(true).setKeepAlive(true);
    const late = setTimeout(() => socket.destroy(new Error('it did not answer')), limitMs);
    const abort = () => socket.destroy(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    try {
      socket.write(hopRequest(request));
      requireReached(await untilHead(socket, maxHopHeadBytes));
      return socket;
    } catch (error) {
      socket.on('error', () => undefined).destroy();
      if (signal.aborted || error instanceof Refusal) throw error;
      throw new Refusal('SERVICE_UNAVAILABLE', 'the host of the sandbox cannot be reached now', { cause: error });
    } finally {
      clearTimeout(late);
      signal.removeEventListener('abort', abort);
    }
  }
}

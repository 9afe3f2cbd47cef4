// One client connection: one request, passed to its guest, and the response back. Bodies are counted and
// spliced, never kept; whichever side is slow slows the other. Nothing is passed on that was not
// understood, and neither connection serves a second request.
import type { Socket } from 'node:net';

import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';

import { BodyScanner } from './domain/body-scanner.ts';
import { BadMessage, findHeadEnd } from './domain/fields.ts';
import { requestForGuest } from './domain/forwarding.ts';
import { Refusal, answerBytes, refusalBytes } from './domain/refusal.ts';
import { type RequestHead, maxHeadBytes, parseRequestHead } from './domain/request-head.ts';
import { type Route, routeOf } from './domain/route.ts';
import { GuestResponse } from './guest-response.ts';

// Connects to a port of a sandbox, or throws a Refusal.
export type Dial = (id: SandboxId, port: number, signal: AbortSignal) => Promise<Socket>;

export interface ExchangeOptions {
  readonly dial: Dial;
  readonly domain: string;
  readonly log: Log;
  readonly headTimeoutMs: number;
  readonly idleTimeoutMs: number;
}

const maxHeldBytes = 64 * 1024;
// How long a refused client may go on sending before it is cut: closing at once would reset the
// connection and take the answer with it.
const lingerMs = 2000;

export class Exchange {
  readonly #client: Socket;
  readonly #options: ExchangeOptions;
  readonly #gone = new AbortController();
  readonly #headTimer: NodeJS.Timeout;
  #take: (bytes: Buffer) => void;
  #held: Buffer[] = []; // Came before there was anywhere to send it.
  #heldBytes = 0;
  #scanned = 0;
  #request: RequestHead | undefined;
  #guest: Socket | undefined;
  #response: GuestResponse | undefined;
  #hasEnded = false;

  constructor(client: Socket, options: ExchangeOptions) {
    this.#client = client;
    this.#options = options;
    this.#take = (bytes) => this.#takeHead(bytes);
    this.#headTimer = setTimeout(
      () => this.#refuse(new Refusal('HEAD_TIMEOUT', 'the request did not come in time')),
      options.headTimeoutMs,
    );
    client.setNoDelay(true);
    client.setTimeout(options.idleTimeoutMs, () => this.#idle());
    client.on('data', (bytes: Buffer) => this.#take(bytes));
    client.on('end', () => this.#clientEnded());
    client.on('error', () => client.destroy());
    client.on('close', () => this.#closed());
  }

  #takeHead(bytes: Buffer): void {
    const head = this.#held[0] ? Buffer.concat([this.#held[0], bytes]) : bytes;
    this.#held = [head];
    try {
      const end = findHeadEnd(head.subarray(0, maxHeadBytes), this.#scanned);
      this.#scanned = head.length;
      if (end === undefined) {
        if (head.length >= maxHeadBytes) throw new Refusal('HEAD_TOO_LARGE', `the head is over ${maxHeadBytes} bytes`);
        return;
      }
      clearTimeout(this.#headTimer);
      this.#held = [];
      this.#take = (more) => this.#hold(more);
      if (end < head.length) this.#hold(head.subarray(end));
      this.#request = parseRequestHead(head.subarray(0, end));
      const route = routeOf(this.#request, this.#options.domain);
      if (route.kind === 'guest') void this.#connect(this.#request, route);
      else this.#answer(answerBytes(200, 'OK', '{"status":"ok"}', this.#request.method === 'HEAD'));
    } catch (error) {
      this.#refuse(error instanceof BadMessage ? new Refusal('BAD_REQUEST', error.message) : error);
    }
  }

  #hold(bytes: Buffer): void {
    this.#held.push(bytes);
    this.#heldBytes += bytes.length;
    if (this.#heldBytes > maxHeldBytes) this.#client.pause();
  }

  // Settles every outcome itself.
  async #connect(request: RequestHead, route: Extract<Route, { kind: 'guest' }>): Promise<void> {
    const { dial, log } = this.#options;
    try {
      const guest = await dial(route.sandboxId, route.port, this.#gone.signal);
      if (this.#hasEnded) guest.destroy();
      else this.#join(request, route, guest);
    } catch (error) {
      if (this.#gone.signal.aborted) return;
      log.debug({ err: error, sandbox: route.sandboxId, port: route.port }, 'guest not reached');
      this.#refuse(error);
    }
  }

  #join(request: RequestHead, route: Extract<Route, { kind: 'guest' }>, guest: Socket): void {
    const client = this.#client;
    this.#guest = guest;
    const response = new GuestResponse(request, client, guest, {
      ended: () => this.#finish(),
      failed: (refusal) => this.#refuse(refusal),
      upgraded: () => this.#tunnel(guest),
    });
    this.#response = response;
    guest.on('data', (bytes: Buffer) => response.take(bytes));
    guest.on('end', () => response.end());
    guest.on('error', (error) => response.fail(error));
    guest.on('drain', () => client.resume());
    client.on('drain', () => guest.resume());
    guest.write(requestForGuest(request, route, clientAddress(client)));
    if (request.upgrade === undefined) this.#sendBody(new BodyScanner(request.framing), guest);
  }

  #sendBody(scanner: BodyScanner, guest: Socket): void {
    this.#release((bytes) => {
      // What follows a complete request would be a second one; it is told by `Connection: close` to go
      // elsewhere. Reading on shows when the client leaves.
      if (scanner.isDone) return;
      try {
        const count = scanner.take(bytes);
        if (count > 0 && !guest.write(bytes.subarray(0, count))) this.#client.pause();
      } catch (error) {
        this.#refuse(error instanceof BadMessage ? new Refusal('BAD_REQUEST', error.message) : error);
      }
    });
  }

  // After a 101 both sides speak a protocol of their own.
  #tunnel(guest: Socket): void {
    this.#release((bytes) => {
      if (!guest.write(bytes)) this.#client.pause();
    });
  }

  #release(take: (bytes: Buffer) => void): void {
    const held = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    this.#take = take;
    this.#client.resume();
    for (const bytes of held) if (!this.#hasEnded) take(bytes);
  }

  #clientEnded(): void {
    if (this.#hasEnded) return;
    if (this.#response?.isTunnel) this.#guest?.end();
    else this.#client.destroy();
  }

  #idle(): void {
    if (this.#response && !this.#response.hasStarted) {
      this.#refuse(new Refusal('GUEST_TIMEOUT', 'the sandbox did not answer'));
    } else this.#client.destroy();
  }

  #refuse(error: unknown): void {
    const refusal = error instanceof Refusal ? error : new Refusal('INTERNAL', 'internal error', { cause: error });
    if (refusal.code === 'INTERNAL') this.#options.log.error({ err: refusal.cause ?? refusal }, 'exchange failed');
    // Half a response cannot be taken back, only cut so that it shows.
    if (this.#response?.hasStarted) this.#client.resetAndDestroy();
    else this.#answer(refusalBytes(refusal, this.#request?.method === 'HEAD'));
  }

  #answer(bytes: Buffer): void {
    if (this.#hasEnded) return;
    this.#client.write(bytes);
    this.#finish();
  }

  #finish(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#headTimer);
    this.#gone.abort();
    this.#guest?.destroy();
    this.#take = () => undefined;
    this.#client.resume();
    this.#client.end(() => {
      const cut = setTimeout(() => this.#client.destroy(), lingerMs);
      this.#client.once('close', () => clearTimeout(cut));
    });
    this.#client.once('end', () => this.#client.destroySoon());
    if (this.#client.readableEnded) this.#client.destroySoon();
  }

  #closed(): void {
    this.#hasEnded = true;
    clearTimeout(this.#headTimer);
    this.#gone.abort();
    this.#guest?.destroy();
  }
}

function clientAddress(client: Socket): string {
  const address = client.remoteAddress ?? 'unknown';
  return address.startsWith('::ffff:') ? address.slice('::ffff:'.length) : address;
}

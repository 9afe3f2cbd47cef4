// One client's connection: reads request heads, one at a time, and gives each an exchange. What comes ahead of
// its turn is held, up to a bound; answers leave in the order of the requests.
import type { Socket } from 'node:net';

import { BadMessage, findHeadEnd, upTo } from './domain/fields.ts';
import type { Sender } from './domain/forwarding.ts';
import { Refusal, answerBytes, refusalBytes, refusals } from './domain/refusal.ts';
import { type RequestHead, maxHeadBytes, parseRequestHead } from './domain/request-head.ts';
import { type GuestRoute, routeOf } from './domain/route.ts';
import { Exchange, type ExchangeEvents, type ExchangeOptions } from './exchange.ts';
import type { FailureCode, FailureLog } from './failure-log.ts';
import type { IsTrusted } from './trusted-proxies.ts';

export interface ConnectionOptions extends ExchangeOptions {
  readonly domain: string; // Of `{port}-{sandbox id}.{domain}`.
  readonly failures: FailureLog;
  readonly isTrusted: IsTrusted; // A proxy of ours in front.
  readonly headTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly halfOpenTimeoutMs: number; // For the answer to a client that will send nothing more.
}

export interface ConnectionEvents {
  idle(): void; // It waits for another request.
  busy(): void;
  mayKeepAlive(): boolean;
}

const maxHeldBytes = 64 * 1024;
// How long a client that is answered for the last time may go on sending before it is cut: closing at once
// would reset the connection and take the answer with it.
const lingerMs = 2000;
const CR = 13;
const LF = 10;

export class ClientConnection {
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #events: ConnectionEvents;
  readonly #exchangeEvents: ExchangeEvents;
  readonly #sender: Sender;
  #headTimer: NodeJS.Timeout | undefined;
  #held: Buffer[] = []; // Came before its turn.
  #heldBytes = 0;
  #scanned = 0; // Of what is held, while it is a part of a head.
  #request: RequestHead | undefined;
  #route: GuestRoute | undefined;
  #exchange: Exchange | undefined;
  #exchangeTakesBytes = false;
  #isReading = false;
  #isFinished = false; // Answered for the last time.

  constructor(socket: Socket, options: ConnectionOptions, events: ConnectionEvents) {
    this.#socket = socket;
    this.#options = options;
    this.#events = events;
    this.#exchangeEvents = this.#eventsForExchange();
    this.#sender = { address: addressOf(socket), isTrusted: options.isTrusted(addressOf(socket)) };
    this.#startHeadTimer();
    socket.setNoDelay(true);
    socket.setTimeout(options.idleTimeoutMs, () => this.#idled());
    socket.on('data', (bytes: Buffer) => this.#takeBytes(bytes));
    socket.on('drain', () => this.#drained());
    socket.on('end', () => this.#clientEnded());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#closed());
  }

  // Closes the connection if nobody waits for an answer on it.
  closeIfIdle(): void {
    if (!this.#exchange) this.#finish();
  }

  drop(): void {
    this.#socket.destroy();
    this.#closed();
  }

  #eventsForExchange(): ExchangeEvents {
    return {
      takesBytes: () => this.#giveHeld(),
      takesMore: () => this.#heldBytes <= maxHeldBytes && this.#socket.resume(),
      mayKeepAlive: () => this.#mayKeepAlive(),
      ended: (keepsAlive) => (keepsAlive ? this.#next() : this.#finish()),
      refused: (refusal) => this.#refuse(refusal),
      broke: (why) => {
        this.#tell(refusalOf(why).code, why);
        this.#socket.resetAndDestroy();
      },
    };
  }

  #takeBytes(bytes: Buffer): void {
    if (this.#isFinished) return;
    if (this.#exchange && this.#exchangeTakesBytes) this.#give(this.#exchange, bytes);
    else {
      this.#hold(bytes);
      this.#readHeads();
    }
  }

  #give(exchange: Exchange, bytes: Buffer): void {
    const count = exchange.take(bytes);
    if (count < bytes.length) this.#hold(bytes.subarray(count));
  }

  #giveHeld(): void {
    this.#exchangeTakesBytes = true;
    if (this.#exchange && this.#heldBytes > 0) this.#give(this.#exchange, this.#takeHeld());
    if (this.#socket.readableEnded) this.#clientEnded();
  }

  #hold(bytes: Buffer): void {
    if (this.#isFinished) return;
    this.#held.push(bytes);
    this.#heldBytes += bytes.length;
    if (this.#heldBytes > maxHeldBytes) this.#socket.pause();
  }

  #takeHeld(): Buffer {
    const held = this.#held.length === 1 ? this.#held[0]! : Buffer.concat(this.#held);
    this.#held = [];
    this.#heldBytes = 0;
    this.#socket.resume();
    return held;
  }

  // Until a request takes its time or its end has not come. A client that does not read its answers gets no
  // more of them.
  #readHeads(): void {
    if (this.#isReading) return;
    this.#isReading = true;
    let isComplete = true;
    while (isComplete && !this.#exchange && this.#heldBytes > 0 && !this.#socket.writableNeedDrain) {
      isComplete = this.#readHead(this.#takeHeld());
    }
    this.#isReading = false;
  }

  #readHead(held: Buffer): boolean {
    // An empty line in front of a request, which old clients send behind a body.
    const isEmptyLine = held[0] === CR && held[1] === LF && this.#scanned === 0;
    const bytes = isEmptyLine ? held.subarray(2) : held;
    try {
      const end = findHeadEnd(upTo(bytes, maxHeadBytes), this.#scanned);
      if (end === undefined) {
        if (bytes.length >= maxHeadBytes) throw new Refusal('HEAD_TOO_LARGE', `the head is over ${maxHeadBytes} bytes`);
        this.#scanned = bytes.length;
        if (bytes.length > 0) this.#hold(bytes);
        this.#startHeadTimer();
        return false;
      }
      this.#scanned = 0;
      this.#stopHeadTimer();
      if (end < bytes.length) this.#hold(bytes.subarray(end));
      this.#begin(parseRequestHead(upTo(bytes, end)));
    } catch (error) {
      this.#refuse(error);
    }
    return true;
  }

  #begin(request: RequestHead): void {
    this.#request = request;
    const route = routeOf(request, this.#options.domain);
    if (route.kind === 'health') {
      const keepsAlive = request.framing.kind === 'none' && this.#mayKeepAlive();
      const options = { isHead: request.method === 'HEAD', keepsAlive };
      this.#answer(answerBytes({ status: 200, phrase: 'OK' }, '{"status":"ok"}', options), keepsAlive);
      return;
    }
    this.#route = route;
    this.#events.busy();
    this.#exchange = new Exchange(this.#socket, this.#sender, this.#options, this.#exchangeEvents);
    this.#exchange.start(request, route);
  }

  // What the client has not sent of this request it would send as the next.
  #mayKeepAlive(): boolean {
    const { version, options, upgrade } = this.#request!;
    if (version === '1.0' || upgrade !== undefined || options.includes('close')) return false;
    return (!this.#socket.readableEnded || this.#heldBytes > 0) && this.#events.mayKeepAlive();
  }

  #refuse(error: unknown): void {
    const refusal = refusalOf(error);
    this.#tell(refusal.code, refusal.code === 'INTERNAL' ? (refusal.cause ?? refusal) : refusal);
    this.#options.answered?.(refusals[refusal.code].status, 'edge');
    const request = this.#request;
    const isWhole = request !== undefined && (this.#exchange?.isRequestComplete ?? request.framing.kind === 'none');
    const keepsAlive = isWhole && refusal.code !== 'BAD_REQUEST' && this.#mayKeepAlive();
    this.#answer(refusalBytes(refusal, { isHead: request?.method === 'HEAD', keepsAlive }), keepsAlive);
  }

  #answer(bytes: Buffer, keepsAlive: boolean): void {
    if (this.#isFinished) return;
    this.#socket.write(bytes);
    if (keepsAlive) this.#next();
    else this.#finish();
  }

  #next(): void {
    this.#exchange = undefined;
    this.#exchangeTakesBytes = false;
    this.#request = undefined;
    this.#route = undefined;
    if (this.#heldBytes > 0) this.#readHeads();
    else if (this.#socket.readableEnded || !this.#events.mayKeepAlive()) this.#finish();
    else this.#events.idle();
  }

  #drained(): void {
    if (this.#exchange) this.#exchange.clientDrained();
    else if (!this.#isFinished) this.#readHeads();
  }

  // The client will send nothing more, but may wait for answers to what it sent.
  #clientEnded(): void {
    const exchange = this.#exchange;
    if (this.#isFinished) this.#socket.destroySoon();
    else if (!exchange) {
      if (this.#heldBytes === 0) this.#finish();
      else if (!this.#socket.writableNeedDrain) this.#socket.destroy();
    } else if (exchange.isTunnel) exchange.clientEnded();
    else if (exchange.isRequestComplete) this.#socket.setTimeout(this.#options.halfOpenTimeoutMs);
    else if (this.#exchangeTakesBytes) this.#socket.destroy();
  }

  #idled(): void {
    if (this.#exchange && !this.#exchange.hasStarted) this.#exchange.clientIdled();
    else this.#socket.destroy();
  }

  #startHeadTimer(): void {
    const late = () => this.#refuse(new Refusal('HEAD_TIMEOUT', 'the request did not come in time'));
    this.#headTimer ??= setTimeout(late, this.#options.headTimeoutMs);
  }

  #stopHeadTimer(): void {
    clearTimeout(this.#headTimer);
    this.#headTimer = undefined;
  }

  #finish(): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.#exchange = undefined;
    this.#held = [];
    this.#heldBytes = 0;
    this.#stopHeadTimer();
    this.#events.busy();
    this.#socket.resume();
    this.#socket.end(() => {
      const cut = setTimeout(() => this.#socket.destroy(), lingerMs);
      this.#socket.once('close', () => clearTimeout(cut));
    });
    if (this.#socket.readableEnded) this.#socket.destroySoon();
  }

  #closed(): void {
    this.#isFinished = true;
    this.#stopHeadTimer();
    this.#events.busy();
    const wasLeft = this.#exchange?.cancel() === true && this.#events.mayKeepAlive();
    if (wasLeft) this.#tell('CLIENT_LEFT');
  }

  #tell(code: FailureCode, error?: unknown): void {
    const where = this.#route && { sandbox: this.#route.sandboxId, port: this.#route.port };
    this.#options.failures.add({ code, client: this.#sender.address, ...where, error });
  }
}

function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof BadMessage) return new Refusal('BAD_REQUEST', error.message);
  return new Refusal('INTERNAL', 'internal error', { cause: error });
}

function addressOf(socket: Socket): string {
  const address = socket.remoteAddress ?? 'unknown';
  return address.startsWith('::ffff:') ? address.slice('::ffff:'.length) : address;
}

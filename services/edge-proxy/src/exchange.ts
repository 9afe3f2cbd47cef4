// One request, passed to its guest, and the response back. Bodies are counted and spliced, never kept;
// whichever side is slow slows the other. Nothing is passed on that was not understood.
import type { Socket } from 'node:net';

import type { SandboxId } from '@wrenn/kit/ids';
import { inCallersTrace } from '@wrenn/kit/telemetry/span';

import type { Admission } from './domain/access.ts';
import { BodyScanner } from './domain/body-scanner.ts';
import { BadMessage } from './domain/fields.ts';
import { type Sender, requestForGuest } from './domain/forwarding.ts';
import { Refusal } from './domain/refusal.ts';
import type { RequestHead } from './domain/request-head.ts';
import type { GuestRoute } from './domain/route.ts';
import type { Shares } from './domain/shares.ts';
import type { GuestConnection, GuestUser } from './guest-connection.ts';
import { GuestResponse } from './guest-response.ts';

export interface TakeOptions {
  readonly mayReuse: boolean; // Else it is a new connection.
  readonly signal: () => AbortSignal; // Ends a dial; asked for only where there is one, as it costs more than a kept connection.
}

// Where connections to guests come from; throws a Refusal.
export interface Guests {
  take(id: SandboxId, port: number, options: TakeOptions): Promise<GuestConnection>;
}

// Lets a request pass to the sandbox it names, or throws a Refusal. Asked before anything is dialled.
export type Admit = (request: RequestHead, route: GuestRoute) => Promise<Admission>;

// Told of each answer when its head goes to the client.
export type Answered = (status: number, by: 'guest' | 'edge') => void;

export interface ExchangeOptions {
  readonly answered?: Answered;
  readonly guests: Guests;
  readonly admit: Admit;
  readonly shares: Shares<SandboxId>;
}

export interface ExchangeEvents {
  takesBytes(): void; // What the client sent after the head may now be given to `take`.
  takesMore(): void; // `take` asked the client to wait, and need not any more.
  mayKeepAlive(): boolean; // The client's connection can serve another request.
  ended(keepsAlive: boolean): void;
  refused(refusal: unknown): void; // The client was sent nothing of a response.
  broke(why: unknown): void; // The client was sent a part of a response, and the rest will not come.
}

// Methods that change nothing may be sent again when a kept connection turns out to be closed.
const safeMethods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

export class Exchange implements GuestUser {
  readonly #client: Socket;
  readonly #sender: Sender;
  readonly #options: ExchangeOptions;
  readonly #events: ExchangeEvents;
  #dialling: AbortController | undefined;
  #sent: { readonly request: RequestHead; readonly route: GuestRoute } | undefined;
  #admission: Admission | undefined;
  #body: BodyScanner | undefined;
  #leaveShare: (() => void) | undefined;
  #guest: GuestConnection | undefined;
  #response: GuestResponse | undefined;
  #hasEnded = false;

  constructor(client: Socket, sender: Sender, options: ExchangeOptions, events: ExchangeEvents) {
    this.#client = client;
    this.#sender = sender;
    this.#options = options;
    this.#events = events;
  }

  // Settles every outcome itself.
  start(request: RequestHead, route: GuestRoute): void {
    this.#sent = { request, route };
    this.#body = new BodyScanner(request.framing);
    const about = { 'wrenn.sandbox.id': route.sandboxId };
    const reach = () => this.#reach(request, route);
    inCallersTrace(this.#traceparentIn(request), 'reach guest', about, reach).catch((error: unknown) =>
      this.#refuse(error),
    );
  }

  // Anybody can send one; only of a proxy of ours it is known to tell the truth.
  #traceparentIn({ fields }: RequestHead): string | undefined {
    return this.#sender.isTrusted ? fields.find(({ key }) => key === 'traceparent')?.value : undefined;
  }

  async #reach(request: RequestHead, route: GuestRoute): Promise<void> {
    const { shares, admit } = this.#options;
    this.#admission = await admit(request, route);
    if (this.#hasEnded) return;
    // Who may not reach the sandbox takes nothing of what it may be sent.
    this.#leaveShare = shares.enter(route.sandboxId);
    this.#serveBy(this.#admission, await this.#take(this.#admission, isRepeatable(request)));
  }

  // Bytes that the client sent after the head; returns how many belong to this exchange.
  take(bytes: Buffer): number {
    const guest = this.#guest;
    if (!guest) return 0;
    try {
      const count = this.isTunnel ? bytes.length : this.#body!.take(bytes);
      const part = count < bytes.length ? bytes.subarray(0, count) : bytes;
      if (count > 0 && !guest.socket.write(part)) this.#client.pause();
      return count;
    } catch (error) {
      this.#refuse(error instanceof BadMessage ? new Refusal('BAD_REQUEST', error.message) : error);
      return bytes.length;
    }
  }

  get isTunnel(): boolean {
    return this.#response?.isTunnel === true;
  }

  // The client was sent any of the response.
  get hasStarted(): boolean {
    return this.#response?.hasStarted === true;
  }

  // The client sent all of its request.
  get isRequestComplete(): boolean {
    return this.#body?.isDone === true && !this.isTunnel;
  }

  clientDrained(): void {
    this.#guest?.socket.resume();
  }

  clientEnded(): void {
    if (this.isTunnel) this.#guest?.socket.end();
  }

  clientIdled(): void {
    this.#refuse(new Refusal('GUEST_TIMEOUT', 'the sandbox did not answer'));
  }

  // The client is gone, or will not be served further. Returns whether anything was left to do for it.
  cancel(): boolean {
    const wasUnderWay = !this.#hasEnded && !this.isTunnel;
    this.#end(false);
    return wasUnderWay;
  }

  guestSent(bytes: Buffer): void {
    this.#response?.take(bytes);
  }

  guestEnded(): void {
    if (!this.#retried()) this.#response?.end();
  }

  guestBroke(error: unknown): void {
    if (!this.#retried()) this.#response?.fail(error);
  }

  guestDrained(): void {
    this.#events.takesMore();
  }

  #take({ route }: Admission, mayReuse: boolean): Promise<GuestConnection> {
    const { sandboxId, port } = route;
    return this.#options.guests.take(sandboxId, port, { mayReuse, signal: () => this.#beginDial() });
  }

  #serveBy(admission: Admission, guest: GuestConnection): void {
    this.#dialling = undefined;
    if (this.#hasEnded) guest.release(true);
    else this.#join(admission, guest);
  }

  #beginDial(): AbortSignal {
    this.#dialling = new AbortController();
    if (this.#hasEnded) this.#dialling.abort();
    return this.#dialling.signal;
  }

  #join({ request, route, toClient }: Admission, guest: GuestConnection): void {
    this.#guest = guest;
    guest.serve(this);
    const { port, prefix } = route;
    const place = { port, prefix, host: this.#sent!.request.host, guestHost: request.host };
    this.#response = new GuestResponse(request, { place, toClient }, this.#client, guest.socket, {
      mayKeepAlive: () => this.isRequestComplete && request.upgrade === undefined && this.#events.mayKeepAlive(),
      ended: ({ keepsAlive, isClean }) => {
        this.#end(isClean && this.isRequestComplete);
        this.#events.ended(keepsAlive);
      },
      failed: (refusal) => this.#refuse(refusal),
      answered: (status) => this.#options.answered?.(status, 'guest'),
      upgraded: () => this.#events.takesBytes(),
    });
    const isWhole = this.isRequestComplete;
    // A body that came along goes out in the same write.
    if (!isWhole) guest.socket.cork();
    guest.socket.write(requestForGuest(request, route, this.#sender), 'latin1');
    if (isWhole) return;
    this.#events.takesBytes();
    guest.socket.uncork();
  }

  // A connection that was kept may have been closed while the request was on its way. It is sent once more,
  // on a new one, if the guest has said nothing and doing it twice changes nothing.
  #retried(): boolean {
    const guest = this.#guest;
    if (!guest || guest.uses === 1 || this.#response?.hasBegun || !isRepeatable(this.#admission!.request)) return false;
    this.#guest = undefined;
    this.#response = undefined;
    guest.release(false);
    const admission = this.#admission!;
    this.#take(admission, false)
      .then((another) => this.#serveBy(admission, another))
      .catch((error: unknown) => this.#refuse(error));
    return true;
  }

  #refuse(error: unknown): void {
    if (this.#hasEnded) return;
    const { hasStarted } = this;
    this.#end(false);
    if (hasStarted) this.#events.broke(error);
    else this.#events.refused(error);
  }

  #end(isClean: boolean): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#dialling?.abort();
    this.#guest?.release(isClean);
    this.#leaveShare?.();
  }
}

function isRepeatable({ method, framing, version }: RequestHead): boolean {
  return safeMethods.has(method) && framing.kind === 'none' && version === '1.1';
}

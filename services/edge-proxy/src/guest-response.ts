// What a guest sends back: interim heads, one final head, one body of the length it declared, and no more.
import type { Socket } from 'node:net';

import { BodyScanner } from './domain/body-scanner.ts';
import { BadMessage, findHeadEnd } from './domain/fields.ts';
import { responseForClient } from './domain/forwarding.ts';
import { Refusal } from './domain/refusal.ts';
import type { RequestHead } from './domain/request-head.ts';
import { type ResponseHead, maxResponseHeadBytes, parseResponseHead } from './domain/response-head.ts';

export interface ResponseEvents {
  ended(): void; // All of the response is on its way to the client.
  failed(refusal: Refusal): void;
  upgraded(): void; // The guest took the client's offer; from now on bytes pass both ways.
}

const maxInterimHeads = 16;

export class GuestResponse {
  readonly #request: RequestHead;
  readonly #client: Socket;
  readonly #guest: Socket;
  readonly #events: ResponseEvents;
  #head: Buffer = Buffer.alloc(0);
  #scanned = 0;
  #interimHeads = 0;
  #body: BodyScanner | undefined;
  #endsWithGuest = false;
  #hasSettled = false;
  isTunnel = false;

  constructor(request: RequestHead, client: Socket, guest: Socket, events: ResponseEvents) {
    this.#request = request;
    this.#client = client;
    this.#guest = guest;
    this.#events = events;
  }

  // True once the client was sent any of the final response.
  get hasStarted(): boolean {
    return this.#body !== undefined || this.isTunnel;
  }

  take(bytes: Buffer): void {
    if (this.#hasSettled) return;
    try {
      if (this.isTunnel) this.#pass(bytes);
      else if (this.#body) this.#takeBody(this.#body, bytes);
      else this.#takeHead(bytes);
    } catch (error) {
      this.#fail(error);
    }
  }

  // The guest closed its side.
  end(): void {
    if (this.#hasSettled) return;
    if (this.isTunnel) this.#client.end();
    else if (this.#endsWithGuest) this.#settle(() => this.#events.ended());
    else this.#fail(new Refusal('GUEST_CLOSED', 'the sandbox closed the connection before it answered in full'));
  }

  fail(error: unknown): void {
    if (this.#hasSettled) return;
    this.#fail(new Refusal('GUEST_CLOSED', 'the connection to the sandbox broke', { cause: error }));
  }

  #takeHead(bytes: Buffer): void {
    const head = this.#head.length > 0 ? Buffer.concat([this.#head, bytes]) : bytes;
    const end = findHeadEnd(head.subarray(0, maxResponseHeadBytes), this.#scanned);
    this.#scanned = head.length;
    if (end === undefined) {
      if (head.length >= maxResponseHeadBytes) throw new BadMessage('the head is too long');
      this.#head = head;
      return;
    }
    this.#head = Buffer.alloc(0);
    this.#scanned = 0;
    this.#endHead(parseResponseHead(head.subarray(0, end), this.#request.method));
    const rest = head.subarray(end);
    if (rest.length > 0) this.take(rest);
  }

  #endHead(response: ResponseHead): void {
    const { status, framing } = response;
    if (status === 101) {
      const protocol = response.fields.find(({ key }) => key === 'upgrade')?.value.toLowerCase();
      if (this.#request.upgrade === undefined || protocol !== this.#request.upgrade.toLowerCase()) {
        throw new BadMessage('a change of protocol that was not asked for');
      }
      this.#pass(responseForClient(response, this.#request.method));
      this.isTunnel = true;
      this.#events.upgraded();
      return;
    }
    if (status < 200 && ++this.#interimHeads > maxInterimHeads) throw new BadMessage('too many interim responses');
    this.#pass(responseForClient(response, this.#request.method));
    if (status < 200) return;
    this.#endsWithGuest = framing.kind === 'close';
    this.#body = new BodyScanner(framing);
    if (this.#body.isDone) this.#settle(() => this.#events.ended());
  }

  #takeBody(body: BodyScanner, bytes: Buffer): void {
    const count = body.take(bytes);
    if (count > 0) this.#pass(bytes.subarray(0, count));
    if (body.isDone) this.#settle(() => this.#events.ended());
  }

  #pass(bytes: Buffer): void {
    if (!this.#client.write(bytes)) this.#guest.pause();
  }

  #fail(error: unknown): void {
    const refusal =
      error instanceof BadMessage
        ? new Refusal('GUEST_MISBEHAVED', `the sandbox did not answer in HTTP/1.1: ${error.message}`)
        : error instanceof Refusal
          ? error
          : new Refusal('INTERNAL', 'internal error', { cause: error });
    this.#settle(() => this.#events.failed(refusal));
  }

  #settle(tell: () => void): void {
    this.#hasSettled = true;
    tell();
  }
}

// What a guest sends back: interim heads, one final head, one body of the length it declared, and no more.
import type { Socket } from 'node:net';

import { BodyScanner } from './domain/body-scanner.ts';
import { BadMessage, findHeadEnd, upTo } from './domain/fields.ts';
import { type ResponseOptions, responseForClient, upgradeOf } from './domain/forwarding.ts';
import { Refusal } from './domain/refusal.ts';
import type { RequestHead } from './domain/request-head.ts';
import { type ResponseHead, maxResponseHeadBytes, parseResponseHead } from './domain/response-head.ts';

export interface ResponseEvents {
  // Asked once, when the final head is passed on: may the client's connection serve another request?
  mayKeepAlive(): boolean;
  // All of the response is on its way to the client. The guest's connection is clean if nothing about it was odd.
  ended(ending: { readonly keepsAlive: boolean; readonly isClean: boolean }): void;
  failed(refusal: Refusal): void;
  answered(status: number): void; // Its final head is passed on.
  upgraded(): void; // The guest took the client's offer; from now on bytes pass both ways.
}

export type ResponseTerms = Pick<ResponseOptions, 'place' | 'toClient'>;

const maxInterimHeads = 16;
// Up to here a head and what came with it are cheaper to copy into one write than to write twice.
const maxCopiedBytes = 16 * 1024;
const noBytes = Buffer.alloc(0);

export class GuestResponse {
  readonly #request: RequestHead;
  readonly #terms: ResponseTerms;
  readonly #client: Socket;
  readonly #guest: Socket;
  readonly #events: ResponseEvents;
  #head: Buffer = noBytes;
  #scanned = 0;
  #interimHeads = 0;
  #body: BodyScanner | undefined;
  #endsWithGuest = false;
  #keepsAlive = false;
  #isPersistent = false;
  #hasSettled = false;
  hasBegun = false; // The guest sent any byte.
  isTunnel = false;

  constructor(request: RequestHead, terms: ResponseTerms, client: Socket, guest: Socket, events: ResponseEvents) {
    this.#request = request;
    this.#terms = terms;
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
    this.hasBegun = true;
    try {
      if (this.isTunnel) this.#pass(bytes);
      else if (this.#body) this.#takeBody(this.#body, '', bytes);
      else this.#takeHeads(bytes);
    } catch (error) {
      this.#fail(error);
    }
  }

  // The guest closed its side.
  end(): void {
    if (this.#hasSettled) return;
    if (this.isTunnel) this.#client.end();
    else if (this.#endsWithGuest) this.#end(false);
    else this.#fail(new Refusal('GUEST_CLOSED', 'the sandbox closed the connection before it answered in full'));
  }

  fail(error: unknown): void {
    if (this.#hasSettled) return;
    this.#fail(new Refusal('GUEST_CLOSED', 'the connection to the sandbox broke', { cause: error }));
  }

  #takeHeads(bytes: Buffer): void {
    let head = this.#head.length > 0 ? Buffer.concat([this.#head, bytes]) : bytes;
    while (head.length > 0 && !this.#hasSettled) {
      const end = findHeadEnd(upTo(head, maxResponseHeadBytes), this.#scanned);
      if (end === undefined) {
        if (head.length >= maxResponseHeadBytes) throw new BadMessage('the head is too long');
        this.#scanned = head.length;
        this.#head = head;
        return;
      }
      this.#head = noBytes;
      this.#scanned = 0;
      const response = parseResponseHead(upTo(head, end), this.#request.method);
      head = head.subarray(end);
      if (response.status === 101) this.#changeProtocol(response, head);
      else if (response.status < 200) this.#passInterim(response);
      else this.#beginBody(response, head);
      if (this.hasStarted) return;
    }
  }

  #changeProtocol(response: ResponseHead, rest: Buffer): void {
    const { upgrade } = this.#request;
    if (upgrade === undefined || upgradeOf(response)?.toLowerCase() !== upgrade.toLowerCase()) {
      throw new BadMessage('a change of protocol that was not asked for');
    }
    this.isTunnel = true;
    this.#events.answered(response.status);
    this.#passHead(this.#headFor(response), rest);
    this.#events.upgraded();
  }

  #passInterim(response: ResponseHead): void {
    if (++this.#interimHeads > maxInterimHeads) throw new BadMessage('too many interim responses');
    // HTTP/1.0 has none.
    if (this.#request.version === '1.1') this.#passHead(this.#headFor(response), noBytes);
  }

  #beginBody(response: ResponseHead, rest: Buffer): void {
    const { framing } = response;
    if (framing.kind === 'chunked' && this.#request.version === '1.0') throw new BadMessage('HTTP/1.0 knows no chunks');
    this.#endsWithGuest = framing.kind === 'close';
    this.#isPersistent = response.isPersistent && this.#request.version === '1.1';
    this.#keepsAlive = !this.#endsWithGuest && this.#events.mayKeepAlive();
    this.#body = new BodyScanner(framing);
    this.#events.answered(response.status);
    this.#takeBody(this.#body, this.#headFor(response), rest);
  }

  #headFor(response: ResponseHead): string {
    const { place, toClient } = this.#terms;
    const { method } = this.#request;
    return responseForClient(response, { place, toClient, method, keepsAlive: this.#keepsAlive });
  }

  #takeBody(body: BodyScanner, head: string, bytes: Buffer): void {
    const count = body.take(bytes);
    const rest = count < bytes.length ? bytes.subarray(0, count) : bytes;
    if (head !== '') this.#passHead(head, rest);
    else if (count > 0) this.#pass(rest);
    if (body.isDone) this.#end(count === bytes.length);
  }

  #passHead(head: string, rest: Buffer): void {
    if (rest.length <= maxCopiedBytes) {
      this.#written(this.#client.write(rest.length > 0 ? head + rest.toString('latin1') : head, 'latin1'));
      return;
    }
    this.#client.cork();
    this.#client.write(head, 'latin1');
    this.#pass(rest);
    this.#client.uncork();
  }

  #pass(bytes: Buffer): void {
    this.#written(this.#client.write(bytes));
  }

  #written(hasRoom: boolean): void {
    if (!hasRoom) this.#guest.pause();
  }

  #end(isExact: boolean): void {
    const isClean = isExact && this.#isPersistent;
    this.#settle(() => this.#events.ended({ keepsAlive: this.#keepsAlive, isClean }));
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

// A guest's file contents by the agent's plain HTTP /files. Nothing is kept: whichever side is slow slows the
// other, and a transfer that was cut on either side is an error, never a shorter file.
import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';

import type { ByteRange, FileEntry, FilePlace, GuestBytes, GuestFiles, ReadPart } from '../domain/guest-files.ts';
import type { AgentConnection } from './agent-connection.ts';
import { AgentExchange, refusalOf } from './agent-http.ts';

const headLimitMs = 30_000;
// How long the agent may take to say that it wants the bytes, before they are sent without its word.
const continueLimitMs = 2000;
const maxMessageBytes = 256 * 1024;
const lastOffset = 2n ** 63n - 1n;

export class HttpGuestBytes implements GuestBytes {
  readonly #connection: AgentConnection;
  readonly #files: GuestFiles;

  constructor(connection: AgentConnection, files: GuestFiles) {
    this.#connection = connection;
    this.#files = files;
  }

  async *read(place: FilePlace, range: ByteRange, signal: AbortSignal): AsyncGenerator<ReadPart, void, undefined> {
    const headers: Record<string, string> = rangeHeader(range);
    const target = targetOf(place);
    using exchange = new AgentExchange(this.#connection, { method: 'GET', target, headers }, signal);
    try {
      exchange.request.end();
      const [response, entry] = await Promise.all([
        withinLimit(exchange.response, headLimitMs),
        this.#files.stat(place, inMs(headLimitMs, signal)),
      ]);
      if (response.statusCode !== 416 && !isSuccess(response)) throw await refusalOf(response);
      const body = bodyOf(response, range);
      yield { opened: { ...entry, sizeBytes: body.fileBytes } };
      if (response.statusCode === 416) return;
      let leftBytes = body.lengthBytes;
      for await (const piece of response as AsyncIterable<Buffer>) {
        for (let at = 0; at < piece.length; at += maxMessageBytes) {
          const data = piece.subarray(at, at + maxMessageBytes);
          leftBytes -= BigInt(data.length);
          if (leftBytes < 0n) throw misbehaved('more bytes than it announced');
          yield { data };
        }
      }
      if (leftBytes !== 0n || !response.complete) throw misbehaved('fewer bytes than it announced');
    } catch (error) {
      throw exchange.failure(error, signal);
    }
  }

  async write(
    place: FilePlace,
    mode: number,
    data: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<FileEntry> {
    const headers = { 'Content-Type': 'application/octet-stream', Expect: '100-continue' };
    const target = `${targetOf(place)}${mode === 0 ? '' : `&mode=${mode.toString(8)}`}`;
    using exchange = new AgentExchange(this.#connection, { method: 'POST', target, headers }, signal);
    try {
      await send(exchange, data);
      const response = await exchange.response;
      if (!isSuccess(response)) throw await refusalOf(response);
      return await this.#files.stat(place, inMs(headLimitMs, signal));
    } catch (error) {
      throw exchange.failure(error, signal);
    }
  }
}

// Sends the body, or as much of it as is wanted before the answer comes: an answer that comes early, or a
// connection that is cut, is no reason to wait for the rest.
async function send({ request, response }: AgentExchange, data: AsyncIterable<Uint8Array>): Promise<void> {
  let hasAnswered = false;
  let wake: (() => void) | undefined;
  const answered = () => {
    hasAnswered = true;
    wake?.();
  };
  response.then(answered, answered);
  // What comes first: the promise, or the answer and with it undefined.
  const unlessAnswered = <T>(promise: Promise<T>) =>
    new Promise<T | undefined>((resolve, reject) => {
      wake = () => resolve(undefined);
      promise.then(resolve, reject);
    });
  request.flushHeaders();
  const sooner = new AbortController();
  request.once('continue', () => sooner.abort());
  const limit = sleep(continueLimitMs, undefined, { signal: sooner.signal }).catch(() => undefined); // Sooner.
  await unlessAnswered(limit);
  sooner.abort();
  const pieces = data[Symbol.asyncIterator]();
  while (!hasAnswered) {
    const next = await unlessAnswered(pieces.next());
    if (next?.done) {
      request.end();
      return;
    }
    if (!next || next.value.length === 0 || request.write(next.value)) continue;
    await unlessAnswered(new Promise<void>((resolve) => request.once('drain', resolve)));
  }
}

function targetOf({ path, user }: FilePlace): string {
  const username = user === '' ? '' : `&username=${encodeURIComponent(user)}`;
  return `/files?path=${encodeURIComponent(path)}${username}`;
}

function rangeHeader({ offset, length }: ByteRange): Record<string, string> {
  if (offset === 0n && length === 0n) return {};
  const first = offset > lastOffset ? lastOffset : offset;
  const last = first + length - 1n;
  return { Range: `bytes=${first}-${length === 0n ? '' : last > lastOffset ? lastOffset : last}` };
}

const isSuccess = ({ statusCode }: IncomingMessage) => statusCode === 200 || statusCode === 206;

// What the head says of the body, held against what was asked for.
function bodyOf({ statusCode, headers }: IncomingMessage, { offset, length }: ByteRange) {
  const isWhole = offset === 0n && length === 0n;
  const range = headers['content-range'] ?? '';
  if (statusCode === 416) {
    const [, total] = /^bytes \*\/(\d{1,19})$/.exec(range) ?? [];
    if (total === undefined || isWhole) throw misbehaved('a range that was not asked for');
    return { fileBytes: BigInt(total), lengthBytes: 0n };
  }
  const [, announced] = /^(\d{1,19})$/.exec(headers['content-length'] ?? '') ?? [];
  if (announced === undefined) throw misbehaved('a body without a length');
  const lengthBytes = BigInt(announced);
  if (statusCode === 200) {
    if (!isWhole) throw misbehaved('the whole file where a range was asked for');
    return { fileBytes: lengthBytes, lengthBytes };
  }
  const [, first, last, total] = /^bytes (\d{1,19})-(\d{1,19})\/(\d{1,19})$/.exec(range) ?? [];
  if (first === undefined || last === undefined || total === undefined) throw misbehaved('a range that is none');
  const isAsked = BigInt(first) === offset && (length === 0n || lengthBytes <= length);
  if (!isAsked || BigInt(last) - BigInt(first) + 1n !== lengthBytes) throw misbehaved('another range than asked for');
  return { fileBytes: BigInt(total), lengthBytes };
}

function misbehaved(what: string): WrennError {
  return new WrennError('AGENT_MISBEHAVED', `the agent sent ${what}`);
}

async function withinLimit<T>(answer: Promise<T>, limitMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${limitMs} ms`)), limitMs);
  });
  try {
    return await Promise.race([answer, limit]);
  } finally {
    clearTimeout(timer);
  }
}

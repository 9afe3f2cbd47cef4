// Bytes by plain HTTP with a signed URL: through the edge straight to the agent, the fastest way.
import { type ClientRequest, type IncomingMessage, type RequestOptions, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { inMs } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
import { WrennError, isReason } from '@wrenn/kit/errors';
import { UrlOperation } from '@wrenn/proto/wrenn/v1/filesystem';

import { printable } from '../output/printable.ts';
import type { ByteTransport, OpenedFile, RemoteFiles } from './remote-files.ts';

const defaultTtlMs = 3_600_000; // The URL must be good when the transfer begins; it may then take longer.
const maxRefusalBytes = 4096;

export async function signUrl(
  { client, sandboxId, user }: RemoteFiles,
  path: string,
  operation: UrlOperation,
  ttlMs = defaultTtlMs,
): Promise<{ url: string; expiresAtMs: number }> {
  const request = { sandboxId, path, user, operation, ttl: durationOfMs(ttlMs) };
  const { url, expiresAt } = await client.files.signUrl(request, inMs(30_000));
  return { url, expiresAtMs: Number(expiresAt?.seconds ?? 0n) * 1000 };
}

export class SignedBytes implements ByteTransport {
  readonly #files: RemoteFiles;

  constructor(files: RemoteFiles) {
    this.#files = files;
  }

  async read(path: string, signal: AbortSignal): Promise<OpenedFile> {
    const [{ url }, { mode }] = await Promise.all([
      signUrl(this.#files, path, UrlOperation.READ),
      this.#files.stat(path),
    ]);
    const outgoing = begin(url, { method: 'GET', signal });
    const answer = answerOf(outgoing);
    outgoing.end();
    const response = await answer;
    if (response.statusCode !== 200) throw await refusal(response);
    const sizeBytes = Number(response.headers['content-length'] ?? NaN);
    return { sizeBytes, mode, data: whole(response, sizeBytes) };
  }

  async write(path: string, mode: number, data: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    const { url } = await signUrl(this.#files, path, UrlOperation.WRITE);
    const target = mode === 0 ? url : `${url}&mode=${mode.toString(8)}`;
    const headers = { 'Content-Type': 'application/octet-stream' };
    const outgoing = begin(target, { method: 'POST', headers, signal });
    const refused = answerOf(outgoing).then((response) =>
      response.statusCode === 200 || response.statusCode === 204 ? void response.resume() : refusal(response),
    );
    // An answer before the end of the body is a refusal: once it is read, nothing more is sent.
    const over = new AbortController();
    const end = () => over.abort();
    refused.then(end, end);
    const sending = pipeline(Readable.from(data), outgoing, { signal: over.signal });
    const [sent, answered] = await Promise.allSettled([sending, refused]);
    // What the guest says is why; a broken connection is only how.
    if (answered.status === 'fulfilled' && answered.value) throw answered.value;
    for (const part of [sent, answered]) if (part.status === 'rejected') throw part.reason;
  }
}

function begin(url: string, options: RequestOptions): ClientRequest {
  return (url.startsWith('https:') ? httpsRequest : httpRequest)(url, { ...options, agent: false });
}

function answerOf(outgoing: ClientRequest): Promise<IncomingMessage> {
  const answer = new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.on('response', resolve).on('error', reject);
    outgoing.on('close', () => reject(new Error('the connection broke off')));
  });
  answer.catch(() => undefined); // Whoever waits for it gets it.
  return answer;
}

async function* whole(response: IncomingMessage, sizeBytes: number): AsyncGenerator<Uint8Array, void, undefined> {
  let left = sizeBytes;
  for await (const piece of response as AsyncIterable<Buffer>) {
    left -= piece.length;
    yield piece;
  }
  if (left !== 0 || !response.complete) throw new Error('the connection broke off before the file had come whole');
}

// Why the agent, or the edge before it, would not.
async function refusal(response: IncomingMessage): Promise<Error> {
  let text = '';
  for await (const piece of response.setEncoding('utf8') as AsyncIterable<string>) {
    text += piece;
    if (text.length > maxRefusalBytes) break;
  }
  const { reason, message } = told(text);
  if (message === '') return new Error(`the signed URL was answered with ${response.statusCode}`);
  const known = reason === 'NO_SPACE_LEFT' ? 'GUEST_DISK_FULL' : reason;
  return isReason(known) ? new WrennError(known, printable(message)) : new Error(printable(`${message} [${reason}]`));
}

// The agent tells its reason beside the message, the edge both below `error`.
function told(body: string): { reason: string; message: string } {
  try {
    const answer = JSON.parse(body) as {
      reason?: unknown;
      message?: unknown;
      error?: { code?: unknown; message?: unknown };
    };
    const { reason = answer.error?.code, message = answer.error?.message } = answer;
    const text = (value: unknown) => (typeof value === 'string' ? value.slice(0, 500) : '');
    return { reason: text(reason), message: text(message) };
  } catch {
    // Neither of them said it: the status must do.
    return { reason: '', message: '' };
  }
}

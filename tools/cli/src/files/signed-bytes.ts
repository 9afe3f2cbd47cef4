// Bytes by plain HTTP with a signed URL: through the edge straight to the agent, the fastest way.
import { type ClientRequest, type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { inMs } from '@wrenn/kit/deadlines';
import { durationOfMs } from '@wrenn/kit/duration';
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

  async read(path: string): Promise<OpenedFile> {
    const [{ url }, { mode }] = await Promise.all([
      signUrl(this.#files, path, UrlOperation.READ),
      this.#files.stat(path),
    ]);
    const outgoing = begin(url, 'GET', {});
    const answer = answerOf(outgoing);
    outgoing.end();
    const response = await answer;
    if (response.statusCode !== 200) throw await refusal(response);
    const sizeBytes = Number(response.headers['content-length'] ?? NaN);
    return { sizeBytes, mode, data: whole(response, sizeBytes) };
  }

  async write(path: string, mode: number, data: AsyncIterable<Uint8Array>): Promise<void> {
    const { url } = await signUrl(this.#files, path, UrlOperation.WRITE);
    const target = mode === 0 ? url : `${url}&mode=${mode.toString(8)}`;
    const outgoing = begin(target, 'POST', { 'Content-Type': 'application/octet-stream' });
    const answer = answerOf(outgoing);
    const refused = new AbortController();
    // An answer before the end of the body is a refusal: it says more than the write that fails behind it.
    answer.then(
      () => refused.abort(),
      () => undefined,
    );
    await pipeline(Readable.from(data), outgoing, { signal: refused.signal, end: true }).catch(
      async (error: unknown) => {
        if (!refused.signal.aborted) throw error;
      },
    );
    const response = await answer;
    if (response.statusCode !== 200 && response.statusCode !== 204) throw await refusal(response);
    response.resume();
  }
}

function begin(url: string, method: string, headers: Readonly<Record<string, string>>): ClientRequest {
  return (url.startsWith('https:') ? httpsRequest : httpRequest)(url, { method, headers, agent: false });
}

function answerOf(outgoing: ClientRequest): Promise<IncomingMessage> {
  const answer = new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.on('response', resolve).on('error', reject);
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

async function refusal(response: IncomingMessage): Promise<Error> {
  let text = '';
  for await (const piece of response.setEncoding('utf8') as AsyncIterable<string>) {
    text += piece;
    if (text.length > maxRefusalBytes) break;
  }
  return new Error(`the signed URL was answered with ${response.statusCode}: ${printable(text.trim()).slice(0, 500)}`);
}

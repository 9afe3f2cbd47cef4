// A file by a signed URL, as any HTTP client would move it.
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { chunks, drain } from './bytes.ts';

export async function httpUp(url: string, byteCount: number): Promise<void> {
  const outgoing = request(url, { method: 'POST', agent: false, headers: { 'Content-Length': byteCount } });
  const answer = once(outgoing, 'response') as Promise<[IncomingMessage]>;
  await pipeline(Readable.from(chunks(byteCount)), outgoing);
  const [response] = await answer;
  await drain(response);
  expectSuccess(response);
}

export async function httpDown(url: string, byteCount: number): Promise<void> {
  const outgoing = request(url, { agent: false }).end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const count = await drain(response);
  expectSuccess(response);
  if (count !== byteCount) throw new Error(`${count} of ${byteCount} bytes came`);
}

function expectSuccess({ statusCode }: IncomingMessage): void {
  if (statusCode !== 200) throw new Error(`a signed URL was answered with ${statusCode}`);
}

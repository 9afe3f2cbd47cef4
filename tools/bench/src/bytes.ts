// What transfers move: bytes that nothing on the way can make fewer.
import { randomFillSync } from 'node:crypto';

export const chunkBytes = 2 ** 20;
const chunk = randomFillSync(Buffer.alloc(chunkBytes));

// Of a transfer that nobody cuts off.
export const uncut = new AbortController().signal;

// `byteCount` is a multiple of a MiB.
export function* chunks(byteCount: number): Generator<Buffer, void, undefined> {
  for (let left = byteCount; left > 0; left -= chunkBytes) yield chunk;
}

export async function drain(data: AsyncIterable<Uint8Array>): Promise<number> {
  let count = 0;
  for await (const piece of data) count += piece.length;
  return count;
}

export async function* asStream<T>(data: Iterable<T>): AsyncGenerator<T, void, undefined> {
  yield* data;
}

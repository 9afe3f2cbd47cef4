import { readSync } from 'node:fs';

const chunkBytes = 1024 * 1024;

// A file from its start to its end. Each chunk is overwritten by the next.
export function* readChunks(fd: number): Generator<Buffer> {
  const buffer = Buffer.alloc(chunkBytes);
  for (let at = 0; ;) {
    const read = readSync(fd, buffer, 0, chunkBytes, at);
    if (read === 0) return;
    yield buffer.subarray(0, read);
    at += read;
  }
}

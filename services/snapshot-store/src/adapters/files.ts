import { createHash } from 'node:crypto';
import { type Stats, createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';

const hashChunkBytes = 1024 * 1024;

// What a file really occupies: st_blocks counts units of 512 bytes whatever the file system's block size.
export function realBytesOf(file: Stats): number {
  return file.blocks * 512;
}

// Turns "there is no such file" into undefined.
export async function orNothing<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}

export async function sha256Of(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: hashChunkBytes, signal })) {
    hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}

export async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

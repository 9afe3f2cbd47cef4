// A service appends to its log by itself, so that it outlives the supervisor. The supervisor bounds the
// file by copying it aside and cutting it to nothing, which is safe because every write appends.
import { copyFile, mkdir, open, stat, truncate } from 'node:fs/promises';
import { dirname } from 'node:path';

const limitBytes = 16 * 1024 * 1024;

export async function openForAppend(path: string) {
  await mkdir(dirname(path), { recursive: true });
  return open(path, 'a', 0o640);
}

// Keeps at most the last two spans of 16 MiB: `x.log` and `x.log.1`.
export async function rotateIfLarge(path: string, limit = limitBytes): Promise<boolean> {
  const { size } = await stat(path);
  if (size <= limit) return false;
  await copyFile(path, `${path}.1`);
  await truncate(path);
  return true;
}

// The last lines, for an error message.
export async function tailOf(path: string, lineCount = 8): Promise<string> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const length = Math.min(size, 16_384);
    const { buffer } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.toString('utf8').trimEnd().split('\n').slice(-lineCount).join('\n');
  } finally {
    await file.close();
  }
}

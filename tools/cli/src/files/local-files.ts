// The local side of a copy. A file appears whole or not at all, as on the other side.
import { randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { open, readdir, realpath, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

const chunkBytes = 256 * 1024;

export interface LocalFile {
  readonly relativePath: string;
  readonly path: string;
  readonly kind: 'file' | 'directory' | 'other';
  readonly sizeBytes: number;
  readonly mode: number;
}

export async function describeLocal(path: string, relativePath = ''): Promise<LocalFile | undefined> {
  try {
    const found = await stat(path);
    const kind = found.isFile() ? 'file' : found.isDirectory() ? 'directory' : 'other';
    return { relativePath, path, kind, sizeBytes: found.size, mode: found.mode & 0o777 };
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

// Everything below a directory, parents first. A link to a file counts as the file; one to a directory is
// `other`, since it may lead in circles.
export async function* walkLocal(root: string, below = ''): AsyncGenerator<LocalFile, void, undefined> {
  const entries = await readdir(join(root, below), { withFileTypes: true });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const relativePath = below === '' ? entry.name : `${below}/${entry.name}`;
    const described = await describeLocal(join(root, relativePath), relativePath);
    if (!described) continue;
    const isLinkedDirectory = described.kind === 'directory' && !entry.isDirectory();
    yield isLinkedDirectory ? { ...described, kind: 'other' } : described;
    if (entry.isDirectory()) yield* walkLocal(root, relativePath);
  }
}

export function readLocal(path: string): AsyncIterable<Uint8Array> {
  return createReadStream(path, { highWaterMark: chunkBytes });
}

export async function writeLocal(
  path: string,
  mode: number,
  data: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const there = await describeLocal(path);
  // /dev/null is written to, not replaced.
  if (there?.kind === 'other') {
    await pipeline(Readable.from(data), createWriteStream(path), { signal });
    return;
  }
  const target = there ? await realpath(path) : path; // A link stays one, and what it leads to is replaced.
  const temporary = `${target}.wrenn-${randomBytes(4).toString('hex')}`;
  try {
    const file = await open(temporary, 'wx', mode & 0o777);
    await pipeline(Readable.from(data), file.createWriteStream(), { signal });
    signal.throwIfAborted();
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

export async function writeStream(stream: Writable, data: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const bytes of data) {
    await new Promise<void>((resolve, reject) => {
      stream.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }
}

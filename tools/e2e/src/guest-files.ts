// The files of a guest, through the mesh: whole ones, and streams that a test makes.
import { createHash } from 'node:crypto';

import { inMs } from '@wrenn/kit/deadlines';
import type { FileEntry } from '@wrenn/proto/wrenn/v1/filesystem';

import type { Guest } from './guest.ts';
import type { TestMesh } from './mesh.ts';

export interface WriteOptions {
  readonly user?: string;
  readonly mode?: number;
  readonly signal?: AbortSignal;
}

export interface ReadOptions {
  readonly user?: string;
  readonly offset?: bigint;
  readonly length?: bigint;
}

export interface ReadFile {
  readonly opened: FileEntry;
  readonly byteCount: number;
  readonly sha256: string;
}

const limitMs = 120_000;

export class GuestFiles {
  readonly #mesh: TestMesh;
  readonly #guest: Guest;

  constructor(mesh: TestMesh, guest: Guest) {
    this.#mesh = mesh;
    this.#guest = guest;
  }

  at(path: string, user = '') {
    return { sandboxId: this.#guest.id, path, user };
  }

  async write(path: string, data: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, options: WriteOptions = {}) {
    const { user, mode = 0, signal } = options;
    const start = { ...this.at(path, user), mode };
    const { entry } = await this.#mesh.client.bytes.write(messagesOf(start, data), inMs(limitMs, signal));
    return entry;
  }

  writeText(path: string, text: string, options: WriteOptions = {}) {
    return this.write(path, [Buffer.from(text)], options);
  }

  // What a read brings, piece by piece: the entry first.
  async *pieces(path: string, { user, offset = 0n, length = 0n }: ReadOptions = {}, signal?: AbortSignal) {
    const request = { ...this.at(path, user), offset, length };
    for await (const { part } of this.#mesh.client.bytes.read(request, inMs(limitMs, signal))) yield part;
  }

  // Of a file of any size: nothing of it is kept.
  async digest(path: string, options: ReadOptions = {}): Promise<ReadFile> {
    const hash = createHash('sha256');
    let opened: FileEntry | undefined;
    let byteCount = 0;
    for await (const part of this.pieces(path, options)) {
      if (part.case === 'opened') opened = part.value;
      if (part.case !== 'data') continue;
      hash.update(part.value);
      byteCount += part.value.length;
    }
    if (!opened) throw new Error(`${path}: the stream did not begin with the file's entry`);
    return { opened, byteCount, sha256: hash.digest('hex') };
  }

  async text(path: string, options: ReadOptions = {}): Promise<string> {
    const data: Uint8Array[] = [];
    for await (const part of this.pieces(path, options)) if (part.case === 'data') data.push(part.value);
    return Buffer.concat(data).toString();
  }

  async list(path: string, depth = 1, user = ''): Promise<FileEntry[]> {
    return (await this.#mesh.client.files.list({ ...this.at(path, user), depth }, inMs(30_000))).entries;
  }

  async stat(path: string, user = ''): Promise<FileEntry> {
    const { entry } = await this.#mesh.client.files.stat(this.at(path, user), inMs(30_000));
    if (!entry) throw new Error(`${path}: an answer without an entry`);
    return entry;
  }

  // Bytes in files that the agent has open and that have no name: what came of writes that are not whole yet.
  async draftBytes(): Promise<number> {
    const sum = "awk '/^-/ && $2 == 0 { sum += $5 } END { print sum + 0 }'";
    return Number(await this.#guest.sh(`ls -lL /proc/1/fd 2> /dev/null | ${sum}`, { user: 'root' }));
  }

  async remove(path: string, user = ''): Promise<void> {
    await this.#mesh.client.files.remove(this.at(path, user), inMs(60_000));
  }
}

type Start = ReturnType<GuestFiles['at']> & { readonly mode: number };

export async function* messagesOf(start: Start, data: AsyncIterable<Uint8Array> | Iterable<Uint8Array>) {
  yield { part: { case: 'start' as const, value: start } };
  for await (const value of data) yield { part: { case: 'data' as const, value } };
  yield { part: { case: 'finish' as const, value: {} } };
}

export const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

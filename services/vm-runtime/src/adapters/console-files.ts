// Consoles of sandboxes in files: a directory for each, in it pieces that are named by the offset they begin at.
import { appendFile, mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { type SandboxId, isSandboxId } from '@wrenn/kit/ids';

import type { ConsolePiece, ConsoleStore } from '../domain/console-logs.ts';

export interface ConsoleLimits {
  readonly pieceBytes: number;
  readonly pieceCount: number; // Of one sandbox.
  readonly allBytes: number;
  readonly keptMs: number; // Beyond the last that was written.
}

const usualLimits: ConsoleLimits = {
  pieceBytes: 128 * 1024,
  pieceCount: 4,
  allBytes: 256 * 1024 * 1024,
  keptMs: 86_400_000,
};
const readBytes = 64 * 1024;

interface Stored {
  readonly sandboxId: SandboxId;
  readonly bytes: number;
  readonly writtenMs: number;
}

export class ConsoleFiles implements ConsoleStore {
  readonly #dir: string;
  readonly #limits: ConsoleLimits;

  constructor(dir: string, limits = usualLimits) {
    this.#dir = dir;
    this.#limits = limits;
  }

  async append(sandboxId: SandboxId, bytes: Uint8Array): Promise<void> {
    const dir = join(this.#dir, sandboxId);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const pieces = await this.#pieces(sandboxId);
    const last = pieces.at(-1);
    const { size } = last === undefined ? { size: 0 } : await stat(join(dir, String(last)));
    const isFull = last === undefined || size >= this.#limits.pieceBytes;
    const at = isFull ? (last ?? 0) + size : last;
    await appendFile(join(dir, String(at)), bytes, { mode: 0o600 });
    const tooMany = isFull ? pieces.slice(0, Math.max(0, pieces.length + 1 - this.#limits.pieceCount)) : [];
    for (const offset of tooMany) await rm(join(dir, String(offset)), { force: true });
  }

  async read(sandboxId: SandboxId, afterOffset: number): Promise<ConsolePiece> {
    const pieces = await this.#pieces(sandboxId);
    // One who was further than all there is has read of a host that lost it since.
    const isBeyond = afterOffset > (await this.endOffset(sandboxId));
    const wanted = Math.max(isBeyond ? 0 : afterOffset, pieces[0] ?? 0);
    const piece = pieces.findLast((offset) => offset <= wanted);
    if (piece === undefined) return { bytes: new Uint8Array(), nextOffset: afterOffset };
    const found = await bytesAt(join(this.#dir, sandboxId, String(piece)), wanted - piece);
    return { bytes: found, nextOffset: wanted + found.length };
  }

  async endOffset(sandboxId: SandboxId): Promise<number> {
    const last = (await this.#pieces(sandboxId)).at(-1);
    return last === undefined ? 0 : last + (await stat(join(this.#dir, sandboxId, String(last)))).size;
  }

  async prune(isOpen: (sandboxId: SandboxId) => boolean): Promise<void> {
    const closed = (await this.#all()).filter(({ sandboxId }) => !isOpen(sandboxId));
    let excess = closed.reduce((sum, { bytes }) => sum + bytes, 0) - this.#limits.allBytes;
    for (const { sandboxId, bytes, writtenMs } of closed.toSorted((a, b) => a.writtenMs - b.writtenMs)) {
      if (excess <= 0 && Date.now() - writtenMs < this.#limits.keptMs) return;
      await rm(join(this.#dir, sandboxId), { recursive: true, force: true });
      excess -= bytes;
    }
  }

  async #all(): Promise<Stored[]> {
    const names = (await namesIn(this.#dir)).filter(isSandboxId);
    const all: Stored[] = [];
    for (const sandboxId of names) {
      const dir = join(this.#dir, sandboxId);
      const stats = await Promise.all((await namesIn(dir)).map((name) => stat(join(dir, name))));
      const bytes = stats.reduce((sum, { size }) => sum + size, 0);
      all.push({ sandboxId, bytes, writtenMs: Math.max(0, ...stats.map(({ mtimeMs }) => mtimeMs)) });
    }
    return all;
  }

  // Where the pieces of one begin, in order.
  async #pieces(sandboxId: SandboxId): Promise<number[]> {
    return (await namesIn(join(this.#dir, sandboxId))).map(Number).toSorted((a, b) => a - b);
  }
}

async function bytesAt(path: string, offset: number): Promise<Uint8Array> {
  await using file = await open(path, 'r');
  const { bytesRead, buffer } = await file.read(Buffer.alloc(readBytes), 0, readBytes, offset);
  return buffer.subarray(0, bytesRead);
}

async function namesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

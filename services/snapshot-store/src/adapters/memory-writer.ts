// Writes what one generation changed of its parent's memory: `memfile.<build>`, its sums and the new header.
// For worker threads: it reads and writes synchronously, in chunks.
import { closeSync, fdatasyncSync, fsyncSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

import type { SnapshotId } from '@wrenn/kit/ids';

import { encodeHeader } from '../domain/header-format.ts';
import { type MemoryMap, RunList, blockBytes, blocksOf, overlay, runsWithin, zeroBuild } from '../domain/memory-map.ts';
import { encodeSums } from '../domain/sums-format.ts';
import { BlockReader, type BuildFile, readWhole } from './block-reader.ts';
import { dataExtents } from './holes.ts';

export interface MemorySource {
  readonly map: MemoryMap;
  readonly files: readonly BuildFile[];
}

export interface MemoryOrder {
  readonly id: SnapshotId;
  readonly generation: number;
  readonly ramPath: string; // The frozen RAM file.
  readonly memoryBytes: number;
  readonly parent: MemorySource | undefined;
  readonly directory: string; // Where the files are written.
}

export interface WrittenMemory {
  readonly map: MemoryMap;
  readonly readBytes: number;
}

const chunkBlocks = 512;
// Written out before there is more: whoever else makes something durable on that disk, as the database does, may have to
// wait for all that lies in front of it.
const backlogBytes = 16 * 2 ** 20;
const zeroBlock = Buffer.alloc(blockBytes);

// Synchronous, and calls `goOn` between chunks, which throws when the work is not wanted any more.
export function writeMemory(order: MemoryOrder, goOn: () => void): WrittenMemory {
  const { id, generation, memoryBytes, parent, directory } = order;
  const isFull = generation === 0;
  using store = new BlockWriter(join(directory, `memfile.${id}`));
  let readBytes = 0;
  const patches = new RunList();
  const chunk = Buffer.alloc(chunkBlocks * blockBytes);
  const parentChunk = Buffer.alloc(chunkBlocks * blockBytes);
  // A Full is compared with zeroes: what is not zero is its own.
  using reader = parent && new BlockReader(parent.map, parent.files);
  const fd = openSync(order.ramPath, 'r');
  try {
    const spans = isFull && reader ? coveredByEither(fd, reader.map, memoryBytes) : dataSpans(fd);
    for (const span of spans) {
      for (let first = span.first; first < span.end; first += chunkBlocks) {
        goOn();
        const count = Math.min(chunkBlocks, span.end - first);
        const bytes = chunk.subarray(0, count * blockBytes);
        if (span.isOwn) readWhole(fd, bytes, first * blockBytes);
        else reader!.read(first, count, bytes, true);
        readBytes += bytes.length;
        const before = isFull || !reader ? undefined : parentChunk.subarray(0, bytes.length);
        if (before) {
          reader!.read(first, count, before, false);
          if (bytes.equals(before)) continue;
        }
        addChanged(bytes, before, first, patches, store);
      }
    }
  } finally {
    closeSync(fd);
  }
  const storedBytes = store.finish();
  const own = { id, storedBytes, generation };
  const map = overlay(isFull ? undefined : parent?.map, memoryBytes, own, patches.runs);
  writeSynced(join(directory, `memfile.${id}.sums`), encodeSums(store.sums()));
  writeSynced(join(directory, 'memfile.header'), encodeHeader(map));
  return { map, readBytes };
}

// A block that became zero is said to be zero: "unchanged" would bring the parent's bytes back.
function addChanged(bytes: Buffer, before: Buffer | undefined, first: number, patches: RunList, store: BlockWriter) {
  for (let at = 0; at < bytes.length; at += blockBytes) {
    const block = bytes.subarray(at, at + blockBytes);
    if (block.equals(before ? before.subarray(at, at + blockBytes) : zeroBlock)) continue;
    const number = first + at / blockBytes;
    if (before && block.equals(zeroBlock)) patches.add(number, 1, zeroBuild, 0);
    else patches.add(number, 1, 0, store.add(block));
  }
}

interface Span {
  readonly first: number;
  readonly end: number;
  readonly isOwn: boolean; // In the RAM file; else in the parent.
}

function* dataSpans(fd: number): Generator<Span> {
  for (const { at, end } of dataExtents(fd)) {
    yield { first: Math.floor(at / blockBytes), end: Math.ceil(end / blockBytes), isOwn: true };
  }
}

// All that may be other than zero: the RAM file's data, and the parent's where the RAM file has holes.
function* coveredByEither(fd: number, parent: MemoryMap, memoryBytes: number): Generator<Span> {
  let at = 0;
  const inParent = function* (end: number): Generator<Span> {
    for (const run of end > at ? runsWithin(parent.runs, at, end - at) : []) {
      if (run.build !== zeroBuild) yield { first: run.first, end: run.first + run.count, isOwn: false };
    }
  };
  for (const span of dataSpans(fd)) {
    yield* inParent(span.first);
    yield span;
    at = span.end;
  }
  yield* inParent(blocksOf(memoryBytes));
}

export function writeSynced(path: string, content: Buffer): void {
  const fd = openSync(path, 'wx', 0o444);
  try {
    writeFileSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

// Appends blocks in big writes and keeps their checksums.
class BlockWriter implements Disposable {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(chunkBlocks * 2 * blockBytes);
  #filled = 0;
  #written = 0;
  #sums = new Uint32Array(1024);

  constructor(path: string) {
    this.#fd = openSync(path, 'wx', 0o444);
  }

  // Returns the block's offset in the file.
  add(block: Buffer): number {
    const offset = this.#written + this.#filled;
    const index = offset / blockBytes;
    if (index === this.#sums.length) {
      const larger = new Uint32Array(this.#sums.length * 2);
      larger.set(this.#sums);
      this.#sums = larger;
    }
    this.#sums[index] = crc32(block);
    this.#filled += block.copy(this.#buffer, this.#filled);
    if (this.#filled === this.#buffer.length) this.#flush();
    return offset;
  }

  // Makes it durable and returns its length.
  finish(): number {
    this.#flush();
    fsyncSync(this.#fd);
    return this.#written;
  }

  sums(): Uint32Array {
    return this.#sums.subarray(0, this.#written / blockBytes);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #flush(): void {
    for (let at = 0; at < this.#filled;) at += writeSync(this.#fd, this.#buffer, at, this.#filled - at, null);
    this.#written += this.#filled;
    this.#filled = 0;
    if (this.#written % backlogBytes === 0) fdatasyncSync(this.#fd);
  }
}

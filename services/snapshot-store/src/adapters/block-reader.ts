// Reads a snapshot's memory block for block through its map. For worker threads: it reads synchronously.
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { crc32 } from 'node:zlib';

import { WrennError } from '@wrenn/kit/errors';

import { type MemoryMap, blockBytes, runsWithin, zeroBuild } from '../domain/memory-map.ts';
import { decodeSums } from '../domain/sums-format.ts';

export interface BuildFile {
  readonly path: string;
  readonly sumsPath: string; // Empty: its blocks are not verified.
}

interface OpenBuild {
  readonly fd: number;
  readonly sums: Uint32Array | undefined;
}

export class BlockReader implements Disposable {
  readonly map: MemoryMap;
  readonly #files: readonly BuildFile[];
  readonly #builds: OpenBuild[] = [];

  // One file for each build of the map, in its order.
  constructor(map: MemoryMap, files: readonly BuildFile[]) {
    this.map = map;
    this.#files = files;
    try {
      for (const [index, { path, sumsPath }] of files.entries()) {
        const stored = map.builds[index]!.storedBytes / blockBytes;
        const sums = sumsPath === '' ? undefined : decodeSums(readFileSync(sumsPath), stored);
        this.#builds.push({ fd: openSync(path, 'r'), sums });
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  // Fills `into` with `count` blocks from `first`. With `verify`, what has checksums must match them.
  read(first: number, count: number, into: Buffer, verify: boolean): void {
    for (const run of runsWithin(this.map.runs, first, count)) {
      const at = (run.first - first) * blockBytes;
      const bytes = into.subarray(at, at + run.count * blockBytes);
      if (run.build === zeroBuild) {
        bytes.fill(0);
        continue;
      }
      const { fd, sums } = this.#builds[run.build]!;
      readWhole(fd, bytes, run.offset);
      if (verify && sums) this.#verify(bytes, sums, run.offset / blockBytes, run.build);
    }
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#builds.splice(0)) closeSync(fd);
  }

  #verify(bytes: Buffer, sums: Uint32Array, firstStored: number, build: number): void {
    for (let block = 0; block < bytes.length / blockBytes; block++) {
      const at = block * blockBytes;
      if (crc32(bytes.subarray(at, at + blockBytes)) === sums[firstStored + block]) continue;
      const { id } = this.map.builds[build]!;
      throw new WrennError('SNAPSHOT_CORRUPT', `block ${firstStored + block} of memfile.${id} is damaged`, {
        meta: { file: `memfile.${id}`, path: this.#files[build]!.path },
      });
    }
  }
}

// Fails where the file ends early.
export function readWhole(fd: number, into: Buffer, position: number): void {
  for (let at = 0; at < into.length;) {
    const read = readSync(fd, into, at, into.length - at, position + at);
    if (read === 0) throw new Error('the file is shorter than it should be');
    at += read;
  }
}

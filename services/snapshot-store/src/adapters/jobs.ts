// What worker threads do: whatever reads memory or disks in bulk. All of it is synchronous.
import { closeSync, fchmodSync, fchownSync, fsyncSync, openSync, readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { createHash } from 'node:crypto';

import type { SnapshotId } from '@wrenn/kit/ids';

import { decodeHeader } from '../domain/header-format.ts';
import { type MemoryMap, blockBytes, flatMap } from '../domain/memory-map.ts';
import type { FileFacts } from '../domain/snapshot-manifest.ts';
import { decodeWorkingSet, encodeSums } from '../domain/sums-format.ts';
import type { BuildFile } from './block-reader.ts';
import { readChunks } from './chunks.ts';
import { type FileCheck, problemOf } from './file-check.ts';
import { writeMemory, writeSynced } from './memory-writer.ts';
import { writeHeader, writeStagedMap } from './staged-map.ts';

// A map is read where it lies: passing it between threads would cost more.
export type MapSource =
  | { readonly kind: 'header'; readonly path: string }
  | { readonly kind: 'flat'; readonly id: SnapshotId; readonly memoryBytes: number };

export interface ParentMemory {
  readonly map: MapSource;
  readonly files: readonly BuildFile[]; // In the map's order.
  readonly builds: readonly SnapshotId[];
}

export interface MapFacts {
  readonly runCount: number;
  readonly builds: readonly { readonly id: SnapshotId; readonly storedBytes: number }[];
}

export interface MemoryJob {
  readonly id: SnapshotId;
  readonly generation: number;
  readonly ramPath: string;
  readonly memoryBytes: number;
  readonly parent: ParentMemory | undefined;
  readonly directory: string;
}

export interface StagedMapJob {
  readonly id: SnapshotId;
  readonly memoryBytes: number;
  readonly ramPath: string;
  readonly parent: MapSource;
  readonly headerPath: string;
}

export interface FlatMapJob {
  readonly id: SnapshotId;
  readonly memoryBytes: number;
  readonly headerPath: string;
}

export interface CopyJob {
  readonly copies: readonly { readonly from: string; readonly to: string }[];
  // The first of these that is a sound working set is copied; none has to be.
  readonly workingSets: readonly string[];
  readonly workingSetTo: string;
  readonly memoryBlocks: number;
}

export type GoOn = () => void;

export const jobs = {
  writeMemory({ parent, ...order }: MemoryJob, goOn: GoOn): MapFacts & { readonly readBytes: number } {
    const source = parent && { map: mapOf(parent.map), files: parent.files };
    const { map, readBytes } = writeMemory({ ...order, parent: source }, goOn);
    return { ...factsOf(map), readBytes };
  },

  mapStaged({ parent, ...order }: StagedMapJob): MapFacts {
    return factsOf(writeStagedMap({ ...order, parent: mapOf(parent) }));
  },

  mapFlat({ id, memoryBytes, headerPath }: FlatMapJob): MapFacts {
    return factsOf(writeHeader(flatMap(id, memoryBytes), headerPath));
  },

  // Returns whether there was a working set.
  copy({ copies, workingSets, workingSetTo, memoryBlocks }: CopyJob): boolean {
    for (const { from, to } of copies) writeSynced(to, readFileSync(from));
    for (const path of workingSets) {
      const bytes = readFileSync(path);
      if (!decodeWorkingSet(bytes, memoryBlocks)) continue;
      writeSynced(workingSetTo, bytes);
      return true;
    }
    return false;
  },

  // Makes files durable and read-only, and says what is in them.
  seal(files: readonly { readonly path: string; readonly sum: 'sha256' | 'crc32' | 'none' }[], goOn: GoOn) {
    return files.map(({ path, sum }) => seal(path, sum, goOn));
  },

  // Writes the checksums of a memfile that has none.
  sum({ path, to }: { readonly path: string; readonly to: string }, goOn: GoOn): FileFacts {
    writeSynced(to, encodeSums(sumsOf(path, goOn)));
    return seal(to, 'sha256', goOn);
  },

  // What is wrong with each; empty where nothing is.
  check(files: readonly FileCheck[], goOn: GoOn): string[] {
    return files.map((file) => problemOf(file, goOn));
  },
};

function seal(path: string, sum: 'sha256' | 'crc32' | 'none', goOn: GoOn): FileFacts {
  const fd = openSync(path, 'r');
  try {
    let bytes = 0;
    let crc = 0;
    const hash = createHash('sha256');
    for (const chunk of readChunks(fd)) {
      goOn();
      bytes += chunk.length;
      if (sum === 'crc32') crc = crc32(chunk, crc);
      if (sum === 'sha256') hash.update(chunk);
    }
    fchownSync(fd, 0, 0);
    fchmodSync(fd, 0o444);
    fsyncSync(fd);
    if (sum === 'none') return { bytes };
    return sum === 'crc32' ? { bytes, crc32: crc } : { bytes, sha256: hash.digest('hex') };
  } finally {
    closeSync(fd);
  }
}

function sumsOf(path: string, goOn: GoOn): Uint32Array {
  const fd = openSync(path, 'r');
  try {
    const sums: number[] = [];
    for (const chunk of readChunks(fd)) {
      goOn();
      for (let at = 0; at < chunk.length; at += blockBytes) sums.push(crc32(chunk.subarray(at, at + blockBytes)));
    }
    return Uint32Array.from(sums);
  } finally {
    closeSync(fd);
  }
}

function mapOf(source: MapSource): MemoryMap {
  if (source.kind === 'flat') return flatMap(source.id, source.memoryBytes);
  return decodeHeader(readFileSync(source.path));
}

function factsOf({ builds, runs }: MemoryMap): MapFacts {
  return { builds, runCount: runs.length };
}

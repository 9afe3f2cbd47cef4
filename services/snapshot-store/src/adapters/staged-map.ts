// The memory map of a staged snapshot: what its frozen RAM file holds lies there, at its own address, and all else
// is its parent's. For worker threads.
import { closeSync, openSync, renameSync, writeFileSync } from 'node:fs';

import type { SnapshotId } from '@wrenn/kit/ids';

import { encodeHeader } from '../domain/header-format.ts';
import { type MemoryMap, RunList, blockBytes, overlay } from '../domain/memory-map.ts';
import { dataExtents } from './holes.ts';

export interface StagedMapOrder {
  readonly id: SnapshotId;
  readonly memoryBytes: number;
  readonly ramPath: string;
  readonly parent: MemoryMap;
  readonly headerPath: string;
}

export function writeStagedMap({ id, memoryBytes, ramPath, parent, headerPath }: StagedMapOrder): MemoryMap {
  const patches = new RunList();
  const fd = openSync(ramPath, 'r');
  try {
    for (const { at, end } of dataExtents(fd)) {
      const first = Math.floor(at / blockBytes);
      patches.add(first, Math.ceil(end / blockBytes) - first, 0, first * blockBytes);
    }
  } finally {
    closeSync(fd);
  }
  // Of one that will be committed as a Full this is still the place in the chain.
  const own = { id, storedBytes: memoryBytes, generation: parent.generation + 1 };
  return writeHeader(overlay(parent, memoryBytes, own, patches.runs), headerPath);
}

// Replaces what was there: who has the old one open keeps it.
export function writeHeader(map: MemoryMap, path: string): MemoryMap {
  const temporary = `${path}.new`;
  writeFileSync(temporary, encodeHeader(map), { mode: 0o444 });
  renameSync(temporary, path);
  return map;
}

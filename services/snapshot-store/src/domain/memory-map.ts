// Where each block of a snapshot's memory lies: runs that are sorted, touch each other and cover the memory whole.
// A block is found with one search, whatever the generation.
import type { SnapshotId } from '@wrenn/kit/ids';

export const blockBytes = 4096;
export const zeroBuild = 0xffffffff; // The build index of blocks that are zero.
export const maxBuilds = 64;
export const maxRuns = 2 ** 22;

export interface Run {
  readonly first: number; // Block number.
  readonly count: number; // Blocks.
  readonly build: number; // Index into the builds, or zeroBuild.
  readonly offset: number; // Bytes into the build's file; 0 for zero blocks.
}

export interface MemoryBuild {
  readonly id: SnapshotId;
  readonly storedBytes: number;
}

export interface MemoryMap {
  readonly generation: number;
  readonly memoryBytes: number;
  readonly builds: readonly MemoryBuild[]; // The first is the own one.
  readonly runs: readonly Run[];
}

export interface OwnBuild extends MemoryBuild {
  readonly generation: number;
}

export function blocksOf(memoryBytes: number): number {
  return memoryBytes / blockBytes;
}

// A Full whose one file holds the memory block for block.
export function flatMap(id: SnapshotId, memoryBytes: number): MemoryMap {
  const run = { first: 0, count: blocksOf(memoryBytes), build: 0, offset: 0 };
  return { generation: 0, memoryBytes, builds: [{ id, storedBytes: memoryBytes }], runs: [run] };
}

// What a generation makes of its parent: `patches` (sorted; their build is 0, the own one, or zero) lie over the
// parent's runs, or over zeroes without one. Builds that no run names any more are left out.
export function overlay(
  parent: MemoryMap | undefined,
  memoryBytes: number,
  own: OwnBuild,
  patches: readonly Run[],
): MemoryMap {
  const base = parent?.runs ?? [{ first: 0, count: blocksOf(memoryBytes), build: zeroBuild, offset: 0 }];
  const merged = new RunList();
  let at = 0;
  let next = 0;
  const copyBaseUpTo = (end: number) => {
    while (at < end) {
      const run = base[next]!;
      const stop = Math.min(end, run.first + run.count);
      const { build, offset } = run;
      const skipped = (at - run.first) * blockBytes;
      if (build === zeroBuild) merged.add(at, stop - at, zeroBuild, 0);
      else merged.add(at, stop - at, build + 1, offset + skipped);
      at = stop;
      if (at === run.first + run.count) next += 1;
    }
  };
  for (const patch of patches) {
    copyBaseUpTo(patch.first);
    merged.add(patch.first, patch.count, patch.build, patch.offset);
    at = patch.first + patch.count;
    while (next < base.length && base[next]!.first + base[next]!.count <= at) next += 1;
  }
  copyBaseUpTo(blocksOf(memoryBytes));
  const builds = [{ id: own.id, storedBytes: own.storedBytes }, ...(parent?.builds ?? [])];
  return withoutUnused({ generation: own.generation, memoryBytes, builds, runs: merged.runs });
}

// Takes runs in order; neighbours that could be one run become one.
export class RunList {
  readonly runs: Run[] = [];

  add(first: number, count: number, build: number, offset: number): void {
    const last = this.runs.at(-1);
    if (last && isContinued(last, first, build, offset)) {
      this.runs[this.runs.length - 1] = { ...last, count: last.count + count };
    } else {
      this.runs.push({ first, count, build, offset });
    }
  }
}

export function isContinued(run: Run, first: number, build: number, offset: number): boolean {
  if (run.first + run.count !== first || run.build !== build) return false;
  return build === zeroBuild || run.offset + run.count * blockBytes === offset;
}

// The parts of the runs that lie within `count` blocks from `first`, in order.
export function* runsWithin(runs: readonly Run[], first: number, count: number): Generator<Run> {
  const end = first + count;
  for (let index = runIndexOf(runs, first); index < runs.length; index++) {
    const run = runs[index]!;
    if (run.first >= end) return;
    const from = Math.max(run.first, first);
    const offset = run.build === zeroBuild ? 0 : run.offset + (from - run.first) * blockBytes;
    yield { first: from, count: Math.min(run.first + run.count, end) - from, build: run.build, offset };
  }
}

export function runIndexOf(runs: readonly Run[], block: number): number {
  let low = 0;
  let high = runs.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (runs[middle]!.first <= block) low = middle;
    else high = middle - 1;
  }
  return low;
}

function withoutUnused(map: MemoryMap): MemoryMap {
  const used = new Set(map.runs.map((run) => run.build));
  const kept = map.builds.map((_build, index) => index).filter((index) => index === 0 || used.has(index));
  if (kept.length === map.builds.length) return map;
  const indexOf = new Map(kept.map((old, index) => [old, index]));
  const runs = map.runs.map((run) => ({ ...run, build: indexOf.get(run.build) ?? zeroBuild }));
  return { ...map, builds: kept.map((index) => map.builds[index]!), runs };
}

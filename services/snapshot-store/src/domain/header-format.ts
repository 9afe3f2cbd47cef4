// `memfile.header` byte by byte, as docs/formats.md has it. What breaks a rule of it is refused.
import { crc32 } from 'node:zlib';

import { isSnapshotId } from '@wrenn/kit/ids';

import {
  type MemoryBuild,
  type MemoryMap,
  type Run,
  blockBytes,
  blocksOf,
  isContinued,
  maxBuilds,
  maxRuns,
  zeroBuild,
} from './memory-map.ts';

const magic = 'WRNMEMH1';
const fixedBytes = 32;
const buildBytes = 40;
const runBytes = 24;
const idBytes = 28;
const maxMemoryBytes = 2 ** 40;

export function encodeHeader({ generation, memoryBytes, builds, runs }: MemoryMap): Buffer {
  if (runs.length > maxRuns || builds.length > maxBuilds) throw new Error('the memory map is too large for a header');
  const bytes = Buffer.alloc(fixedBytes + buildBytes * builds.length + runBytes * runs.length + 4);
  bytes.write(magic, 'latin1');
  bytes.writeUInt32LE(blockBytes, 8);
  bytes.writeUInt32LE(generation, 12);
  bytes.writeBigUInt64LE(BigInt(memoryBytes), 16);
  bytes.writeUInt32LE(builds.length, 24);
  bytes.writeUInt32LE(runs.length, 28);
  let at = fixedBytes;
  for (const { id, storedBytes } of builds) {
    bytes.write(id, at, 'latin1');
    writeUInt64(bytes, storedBytes, at + 32);
    at += buildBytes;
  }
  for (const { first, count, build, offset } of runs) {
    bytes.writeUInt32LE(first, at);
    bytes.writeUInt32LE(count, at + 4);
    bytes.writeUInt32LE(build, at + 8);
    writeUInt64(bytes, offset, at + 16);
    at += runBytes;
  }
  bytes.writeUInt32LE(crc32(bytes.subarray(0, at)), at);
  return bytes;
}

// Throws an Error that says which rule is broken.
export function decodeHeader(bytes: Buffer): MemoryMap {
  require(bytes.length >= fixedBytes + buildBytes + runBytes + 4, 'it is too short');
  require(bytes.toString('latin1', 0, 8) === magic, 'it does not begin like one');
  require(bytes.readUInt32LE(8) === blockBytes, 'its block size is unknown');
  const buildCount = bytes.readUInt32LE(24);
  const runCount = bytes.readUInt32LE(28);
  require(buildCount >= 1 && buildCount <= maxBuilds && runCount >= 1 && runCount <= maxRuns, 'its counts are bad');
  const runsAt = fixedBytes + buildBytes * buildCount;
  const end = runsAt + runBytes * runCount;
  require(bytes.length === end + 4, 'its length is not what it says');
  require(bytes.readUInt32LE(end) === crc32(bytes.subarray(0, end)), 'its checksum is wrong');
  const memoryBytes = readUInt64(bytes, 16);
  require(isWhole(memoryBytes) && memoryBytes >= blockBytes && memoryBytes <= maxMemoryBytes, 'its memory size is bad');
  const builds = decodeBuilds(bytes, buildCount);
  const runs = decodeRuns(bytes, runsAt, runCount);
  checkRuns(runs, builds, memoryBytes);
  return { generation: bytes.readUInt32LE(12), memoryBytes, builds, runs };
}

function decodeBuilds(bytes: Buffer, count: number): MemoryBuild[] {
  const builds: MemoryBuild[] = [];
  for (let index = 0; index < count; index++) {
    const at = fixedBytes + buildBytes * index;
    const id = bytes.toString('latin1', at, at + idBytes);
    const storedBytes = readUInt64(bytes, at + 32);
    require(isSnapshotId(id) && bytes.readUInt32LE(at + idBytes) === 0, 'the id of a build is bad');
    require(isWhole(storedBytes), 'the size of a build is bad');
    require(!builds.some((build) => build.id === id), 'a build is named twice');
    builds.push({ id: id as MemoryBuild['id'], storedBytes });
  }
  return builds;
}

function decodeRuns(bytes: Buffer, runsAt: number, count: number): Run[] {
  const runs: Run[] = [];
  for (let at = runsAt; at < runsAt + runBytes * count; at += runBytes) {
    require(bytes.readUInt32LE(at + 12) === 0, 'a run is malformed');
    runs.push({
      first: bytes.readUInt32LE(at),
      count: bytes.readUInt32LE(at + 4),
      build: bytes.readUInt32LE(at + 8),
      offset: readUInt64(bytes, at + 16),
    });
  }
  return runs;
}

function checkRuns(runs: readonly Run[], builds: readonly MemoryBuild[], memoryBytes: number): void {
  let next = 0;
  let last: Run | undefined;
  for (const run of runs) {
    require(run.first === next && run.count > 0, 'its runs do not touch each other');
    if (run.build === zeroBuild) {
      require(run.offset === 0, 'a zero run has an offset');
    } else {
      const stored = builds[run.build]?.storedBytes ?? -1;
      const lies = isWhole(run.offset) && run.offset + run.count * blockBytes <= stored;
      require(lies, 'a run lies outside its build');
    }
    const isApart = !last || !isContinued(last, run.first, run.build, run.offset);
    require(isApart, 'two neighbouring runs could be one');
    next += run.count;
    last = run;
  }
  require(next === blocksOf(memoryBytes), 'its runs do not cover the memory');
}

function isWhole(bytes: number): boolean {
  return Number.isSafeInteger(bytes) && bytes >= 0 && bytes % blockBytes === 0;
}

function writeUInt64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % 2 ** 32, at);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

function readUInt64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}

function require(holds: boolean, problem: string): asserts holds {
  if (!holds) throw new Error(`the header is corrupt: ${problem}`);
}

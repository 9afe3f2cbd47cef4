// What vm-runtime hands over, without a VM: a RAM file of known blocks, device state, and a disk that was written to.
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { type SandboxId, type SnapshotId, newSandboxId, newSnapshotId } from '@wrenn/kit/ids';
import { runProgram } from '@wrenn/kit/run-program';
import type { OpenSnapshotResponse, Snapshot } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import { decodeHeader } from '../src/domain/header-format.ts';
import { blockBytes, runsWithin, zeroBuild } from '../src/domain/memory-map.ts';
import { type StoreClient, type WorkDir, given, writeSource } from './store-fixture.ts';

export const memoryBlocks = 256;
export const machine = {
  vmm: 'qemu 7.2.22',
  accelerator: 'tcg',
  cpuModel: 'max',
  kernel: `sha256:${'ab'.repeat(32)}`,
  vcpuCount: 1,
  memoryBytes: BigInt(memoryBlocks * blockBytes),
};

// A memory: for each block a text that fills it, or '' for zeroes.
export type Memory = readonly string[];

export function memoryOf(blocks: Readonly<Record<number, string>>, count = memoryBlocks): string[] {
  return Array.from({ length: count }, (_none, block) => blocks[block] ?? '');
}

export function blockOf(text: string): Buffer {
  return text === '' ? Buffer.alloc(blockBytes) : Buffer.alloc(blockBytes, text);
}

// Leaves what a VM restored from `before` leaves when it touched `touched` and its memory is `now`.
export async function freeze(
  dir: WorkDir,
  sandboxId: SandboxId,
  touched: Readonly<Record<number, string>>,
  {
    count = memoryBlocks,
    vmstate = 'device state',
    workingSet,
  }: { count?: number; vmstate?: string; workingSet?: Buffer } = {},
): Promise<string> {
  const frozen = frozenPath(dir, sandboxId);
  await mkdir(frozen, { recursive: true });
  const ram = await open(join(frozen, 'ram'), 'w');
  await ram.truncate(count * blockBytes);
  for (const [block, text] of Object.entries(touched))
    await ram.write(blockOf(text), 0, blockBytes, Number(block) * blockBytes);
  await ram.close();
  await writeFile(join(frozen, 'vmstate'), vmstate);
  if (workingSet) await writeFile(join(frozen, 'workingset'), workingSet);
  return frozen;
}

const frozenPath = (dir: WorkDir, sandboxId: SandboxId) => join(dir.ram, `frozen-${sandboxId}`);

export interface Staging {
  readonly sandboxId: SandboxId;
  readonly parentId?: string;
  readonly touched: Readonly<Record<number, string>>;
  readonly snapshotId?: SnapshotId;
  readonly count?: number;
  readonly vmstate?: string;
  readonly workingSet?: Buffer;
  readonly isFrozenAlready?: boolean; // What the VM left is there, or was taken by an earlier call.
}

export async function stage(store: StoreClient, dir: WorkDir, staging: Staging): Promise<Snapshot> {
  const { sandboxId, parentId = '', touched, snapshotId = newSnapshotId(), count = memoryBlocks } = staging;
  const frozenDirectory = staging.isFrozenAlready
    ? frozenPath(dir, sandboxId)
    : await freeze(dir, sandboxId, touched, staging);
  const memoryBytes = BigInt(count * blockBytes);
  const request = {
    snapshotId,
    sandboxId,
    parentId,
    frozenDirectory,
    machine: { ...machine, memoryBytes },
    template: 'debian',
  };
  return given((await store.client.stageSnapshot(request, inMs(10_000))).snapshot);
}

export async function durable(store: StoreClient, id: string): Promise<Snapshot> {
  return given((await store.client.getSnapshot({ snapshotId: id, waitDurable: true }, inMs(60_000))).snapshot);
}

export async function openSnapshot(
  store: StoreClient,
  snapshotId: string,
  diskId = newSandboxId(),
): Promise<OpenSnapshotResponse> {
  return store.client.openSnapshot({ snapshotId, diskId }, inMs(30_000));
}

// The memory as a pager would serve it.
export async function readMemory(opened: Pick<OpenSnapshotResponse, 'headerPath' | 'memoryFiles'>): Promise<Buffer> {
  const map = decodeHeader(await readFile(opened.headerPath));
  const builds = await Promise.all(opened.memoryFiles.map((file) => readFile(file.path)));
  const parts: Buffer[] = [];
  for (const run of runsWithin(map.runs, 0, map.memoryBytes / blockBytes)) {
    const bytes = run.count * blockBytes;
    parts.push(
      run.build === zeroBuild ? Buffer.alloc(bytes) : builds[run.build]!.subarray(run.offset, run.offset + bytes),
    );
  }
  return Buffer.concat(parts);
}

export function bytesOf(memory: Memory): Buffer {
  return Buffer.concat(memory.map(blockOf));
}

// Writes a pattern to a disk as its VM would.
export async function writeDisk(path: string, pattern: number, offset: number, bytes = 65_536): Promise<void> {
  await runProgram('qemu-io', ['-c', `write -q -P ${pattern} ${offset} ${bytes}`, '-c', 'flush', path]);
}

export async function expectDisk(
  path: string,
  patterns: readonly (readonly [pattern: number, offset: number, bytes?: number])[],
) {
  const commands = patterns.flatMap(([pattern, offset, bytes = 65_536]) => [
    '-c',
    `read -q -P ${pattern} ${offset} ${bytes}`,
  ]);
  const said = await runProgram('qemu-io', ['-r', ...commands, path]);
  if (said.includes('Pattern verification failed')) throw new Error(`${path}: ${said}`);
}

// A store with an image and a sandbox that was booted from it.
export async function boot(store: StoreClient, dir: WorkDir): Promise<{ sandboxId: SandboxId; diskPath: string }> {
  const { images } = await store.client.listImages({}, inMs(5000));
  if (images.length === 0) {
    const sourcePath = await writeSource(join(dir.path, 'base.raw'), 'base');
    await store.client.importImage({ name: 'debian', sourcePath }, inMs(20_000));
  }
  const sandboxId = newSandboxId();
  const { disk } = await store.client.createDisk({ diskId: sandboxId, image: 'debian' }, inMs(20_000));
  return { sandboxId, diskPath: given(disk).path };
}

// Snapshots as the store shows them, and the files they are made of.
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';

import type { Machine } from './snapshot-manifest.ts';

export interface StoredSnapshot {
  readonly id: SnapshotId;
  readonly sandboxId: string; // These are empty where the manifest cannot be read.
  readonly template: string;
  readonly parentId: SnapshotId | null;
  readonly generation: number;
  readonly machine: Machine | undefined;
  readonly image: string;
  readonly imageDigest: string;
  readonly diskBytes: number;
  readonly isDurable: boolean;
  readonly createdAt: string; // ISO 8601, UTC.
  readonly builds: readonly StoredBuild[];
  readonly ownBytes: number;
  readonly problem: string;
}

export interface StoredBuild {
  readonly id: SnapshotId;
  readonly generation: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

export interface MemoryFile {
  readonly buildId: SnapshotId;
  readonly path: string;
  readonly sumsPath: string;
}

// What a pager or VMM needs to restore a VM's memory and devices.
export interface OpenedMemory {
  readonly headerPath: string;
  readonly runCount: number;
  readonly files: readonly MemoryFile[];
  readonly vmstatePath: string;
  readonly workingSetPath: string; // Empty: none was recorded.
}

// A frozen layer of a disk; the lowest one stands on the image.
export interface Layer {
  readonly id: SnapshotId;
  readonly path: string;
}

export interface NewLayeredDisk {
  readonly id: SandboxId;
  readonly parentId: SnapshotId;
  readonly layers: readonly Layer[]; // Newest first.
  readonly image: string;
  readonly imageDigest: string;
  readonly virtualBytes: number;
}

export const memfileName = (id: string) => `memfile.${id}`;
export const sumsName = (id: string) => `memfile.${id}.sums`;
export const layerName = (id: string) => `disk.${id}`;
export const headerName = 'memfile.header';
export const singleMemfileName = 'memfile'; // The older form: one build, block for block, no header.
export const vmstateName = 'vmstate';
export const workingSetName = 'workingset';
export const ramName = 'ram';

// The build that a file belongs to; empty for those of the snapshot as a whole.
export function buildOf(file: string): string {
  return /^(?:memfile|disk)\.(sn-[0-9a-z]{25})(?:\.sums)?$/.exec(file)?.[1] ?? '';
}

export function generationOf(
  manifest: { generation: number; builds: readonly { id: string; generation: number }[] },
  file: string,
): number {
  return manifest.builds.find((build) => build.id === buildOf(file))?.generation ?? manifest.generation;
}

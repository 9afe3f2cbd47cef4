// What the snapshots' decisions need of the files they decide about.
import type { Clock } from '@wrenn/kit/clock';
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';

import type { KeyedLocks } from './keyed-locks.ts';
import type { DiskManifest, Parsed } from './manifest.ts';
import type { StoredDisk } from './references.ts';
import type { SnapshotCare } from './snapshot-care.ts';
import type { Layer, NewLayeredDisk, OpenedMemory, StoredSnapshot } from './snapshot.ts';
import type { Machine, SnapshotManifest, StagedRecord } from './snapshot-manifest.ts';

export interface StagedFiles {
  list(): StagedRecord[];
  // Also those that are being staged.
  begun(): StagedRecord[];
  find(id: string): StagedRecord | undefined;
  // Idempotent. A failure before anything was moved leaves nothing; later ones can be finished by asking again.
  stage(record: StagedRecord): Promise<void>;
  remove(id: SnapshotId): Promise<void>;
  condemn(id: SnapshotId): void;
  isCondemned(id: SnapshotId): boolean;
  layerPath(id: SnapshotId): string;
  realBytes(id: SnapshotId): number;
}

export interface CommittedFiles {
  ids(): SnapshotId[];
  read(id: SnapshotId): Parsed<SnapshotManifest> | undefined;
  layers(manifest: SnapshotManifest): Layer[];
  layerBytes(id: SnapshotId, build: SnapshotId): number;
  ownBytes(id: SnapshotId): number;
  condemn(id: SnapshotId): void;
  isCondemned(id: SnapshotId): boolean;
  publish(prepared: string, id: SnapshotId, isCondemned: boolean): Promise<void>;
  remove(id: SnapshotId): Promise<void>;
}

export interface SnapshotMemoryFiles {
  // A staged snapshot without a working set of its own takes that of the committed one below it.
  open(id: SnapshotId, diskId: SandboxId, isBaseSound: boolean): Promise<OpenedMemory>;
  forget(id: SnapshotId): void;
}

// A snapshot complete in a place of its own, not part of the store yet.
export interface PreparedSnapshot {
  readonly path: string;
  readonly manifest: SnapshotManifest;
}

export interface SnapshotPreparer {
  prepare(record: StagedRecord, parent: SnapshotManifest | undefined, signal: AbortSignal): Promise<PreparedSnapshot>;
  discard(prepared: PreparedSnapshot): Promise<void>;
}

export interface Damage {
  readonly file: string;
  readonly generation: number;
  readonly problem: string;
}

export interface SnapshotCheck {
  // Throws unless every file is what it should be; what was verified is not read again. False when only the working
  // set, a hint, is damaged.
  require(manifest: SnapshotManifest, signal?: AbortSignal): Promise<boolean>;
  // The same for what a staged one has on disk.
  requireLayer(record: StagedRecord): Promise<void>;
  requireImage(image: string, digest: string): void;
  accept(manifest: SnapshotManifest): void;
}

export interface LayeredDisks {
  list(): Promise<StoredDisk[]>;
  peek(id: string): DiskManifest | undefined;
  exists(id: string): boolean;
  createOver(disk: NewLayeredDisk): Promise<StoredDisk>;
  // With whatever was given out for it.
  delete(id: SandboxId): Promise<void>;
}

export interface SnapshotsParts {
  readonly staged: StagedFiles;
  readonly committed: CommittedFiles;
  readonly memory: SnapshotMemoryFiles;
  readonly preparer: SnapshotPreparer;
  readonly check: SnapshotCheck;
  readonly care: SnapshotCare;
  readonly disks: LayeredDisks;
  readonly locks: KeyedLocks;
  readonly collectImages: (image: string) => Promise<void>;
  readonly retryMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

export interface StageRequest {
  readonly id: SnapshotId;
  readonly sandboxId: SandboxId;
  readonly parentId: SnapshotId | null;
  readonly frozenDirectory: string;
  readonly machine: Machine;
  readonly template: string;
}

export interface OpenedSnapshot {
  readonly snapshot: StoredSnapshot;
  readonly memory: OpenedMemory;
  readonly disk: StoredDisk;
}

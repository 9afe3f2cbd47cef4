// What pausing, resuming, forking and naming need of the database. The adapters implement these.
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';

import type { CreateKey } from './create-key.ts';
import type { ForkSpec } from './fork-request.ts';
import type { Host } from './host.ts';
import type { Sandbox } from './sandbox.ts';
import type { NamedSnapshot, Settings, Snapshot } from './snapshot.ts';

export interface LifecycleStore {
  // Moves to `pausing` and records the snapshot to be, which is new unless it is `nextSnapshotId` already.
  // Undefined when the sandbox is not as it was seen any more.
  beginPause(seen: Sandbox, snapshotId: SnapshotId, reason: string): Promise<Sandbox | undefined>;
  // Moves a paused one to `resuming` if its host has room: NO_HOST_LEFT and QUOTA_EXCEEDED change nothing.
  admitResume(seen: Sandbox, reason: string): Promise<{ readonly sandbox: Sandbox; readonly host: Host } | undefined>;
  // Records all children as starting from `snapshotId`, or none. Of a running source that snapshot is yet to
  // be made, and recorded as such. Undefined when the source is not as it was seen any more.
  placeFork(fork: NewFork): Promise<PlacedFork | undefined>;
  // All children of a fork, in order, by the first one's id.
  forkOf(first: SandboxId): Promise<Sandbox[]>;
  // Moves all of them to running in one step. Undefined when one is not as it was seen any more.
  runAll(children: readonly RunningChild[], expiresAt: Date): Promise<Sandbox[] | undefined>;
  settings(id: SandboxId): Promise<Settings>;
  // Paused ones that a power cut could lose, as far as is known.
  frail(): Promise<Sandbox[]>;
}

export interface NewFork {
  readonly source: Sandbox;
  readonly snapshotId: SnapshotId;
  readonly childIds: readonly SandboxId[];
  readonly spec: ForkSpec;
  readonly settings: Settings;
  readonly key: CreateKey | undefined;
}

export type PlacedFork =
  | { readonly kind: 'placed'; readonly children: readonly Sandbox[]; readonly host: Host }
  // By an earlier call with the same key.
  | { readonly kind: 'known'; readonly first: Sandbox };

export interface RunningChild {
  readonly seen: Sandbox;
  readonly guestAddress: string;
}

export interface NameTerms {
  readonly name: string;
  readonly requestId: string | undefined;
}

export interface SnapshotStore {
  find(id: SnapshotId): Promise<Snapshot | undefined>;
  // What a running sandbox goes on from; undefined when it does not run, or was to be made no such snapshot.
  adopt(sandboxId: SandboxId, snapshotId: SnapshotId, isDurable: boolean): Promise<Sandbox | undefined>;
  // Nothing came, and nothing will come, of making it.
  abandon(sandboxId: SandboxId, snapshotId: SnapshotId): Promise<void>;
  // Records it, with an event of each paused sandbox that stands on it.
  markDurable(id: SnapshotId, generation: number): Promise<void>;
  // Those in use of which it is not known that they are durable.
  undurable(): Promise<Snapshot[]>;
  // Forgets those that nobody needs.
  forgetUnneeded(): Promise<void>;
  // What a sandbox that is being destroyed stood on, and nobody else does: forgotten, and the host's to delete.
  release(sandboxId: SandboxId): Promise<SnapshotId[]>;
  idsOnHost(hostId: string): Promise<Set<SnapshotId>>;
}

export interface SnapshotNames {
  // Names what a paused sandbox stands on. SNAPSHOT_EXISTS. Undefined when it is not as it was seen any more.
  nameOwn(seen: Sandbox, terms: NameTerms): Promise<SnapshotId | undefined>;
  // Names a snapshot that a running sandbox is about to be made, and records that. Otherwise the same.
  nameNext(seen: Sandbox, snapshotId: SnapshotId, terms: NameTerms): Promise<SnapshotId | undefined>;
  unname(name: string, snapshotId: SnapshotId, terms: { readonly unlessDurable: boolean }): Promise<void>;
  // Names whose snapshot is not known to be durable.
  unfinished(): Promise<NamedSnapshot[]>;
  findByRequest(project: string, requestId: string): Promise<NamedSnapshot | undefined>;
  // Only what is durable is found, listed and deleted.
  find(name: string): Promise<NamedSnapshot | undefined>;
  list(): Promise<NamedSnapshot[]>;
  // Throws SNAPSHOT_NOT_FOUND and SNAPSHOT_IN_USE.
  delete(name: string): Promise<void>;
  settings(id: SnapshotId): Promise<Settings>;
}

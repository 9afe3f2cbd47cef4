// What the domain needs of the outside. The adapters implement these.
import type { OutboundCall } from '@wrenn/kit/deadlines';
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';

import type { Access, PortAccess } from './access.ts';
import type { CreateKey } from './create-key.ts';
import type { CreateSpec } from './create-request.ts';
import type { Host, HostLoad, HostReport } from './host.ts';
import type { Quota } from './quota.ts';
import type { SandboxState } from './sandbox-state.ts';
import type { Sandbox, SandboxEvent, Template } from './sandbox.ts';
import type { HostSnapshot } from './snapshot.ts';

// One change of state with its event.
export interface Move {
  readonly to: SandboxState;
  readonly reason: string;
  // For people, with `to: 'error'`.
  readonly message?: string;
  // With `to: 'running'`.
  readonly guestAddress?: string;
  readonly expiresAt?: Date;
  readonly ttlMs?: number;
  // What it stands on from then on.
  readonly snapshot?: SnapshotStand;
  // The snapshot that its host is about to make; null: none, or settled.
  readonly nextSnapshotId?: SnapshotId | null;
}

export interface SnapshotStand {
  readonly id: SnapshotId;
  readonly isDurable: boolean;
  readonly previousId: SnapshotId | undefined;
}

// Newest first, behind a position.
export interface ListQuery {
  readonly states: readonly SandboxState[];
  readonly behind: Position | undefined;
  readonly limit: number;
}

export interface Position {
  readonly createdAt: Date;
  readonly id: SandboxId;
}

// `known`: the sandbox that an earlier create with the same key made, or is making.
export type Placed =
  | { readonly kind: 'placed'; readonly sandbox: Sandbox; readonly host: Host }
  | { readonly kind: 'known'; readonly sandbox: Sandbox };

export interface SandboxStore {
  // Chooses a host and records the sandbox as starting on it, in one step. NO_HOST_LEFT, QUOTA_EXCEEDED and
  // REQUEST_ID_REUSED record nothing. A key whose sandbox ended before it ever ran is free again.
  place(id: SandboxId, spec: CreateSpec, key: CreateKey | undefined): Promise<Placed>;
  find(id: SandboxId): Promise<Sandbox | undefined>;
  // The sandbox that a key stands for; REQUEST_ID_REUSED if it was another request's.
  findByKey(key: CreateKey): Promise<Sandbox | undefined>;
  findAll(ids: readonly string[]): Promise<Sandbox[]>;
  inStates(states: readonly SandboxState[]): Promise<Sandbox[]>;
  // Of every state that there is a sandbox in.
  countByState(): Promise<ReadonlyMap<SandboxState, number>>;
  // Running sandboxes whose time is up.
  expired(limit: number, except?: readonly SandboxId[]): Promise<Sandbox[]>;
  list(query: ListQuery): Promise<Sandbox[]>;
  // Moves the end of a running sandbox: to `ttlMs` from now, or to its own ttl from now if that is later.
  // Undefined when it is not running.
  extend(id: SandboxId, ttlMs: number | undefined): Promise<Sandbox | undefined>;
  // They were used just now: each that runs lives at least its own ttl from now.
  keepUsed(ids: readonly SandboxId[]): Promise<void>;
  // Undefined when there is none, or it is over.
  setAccess(id: SandboxId, access: PortAccess): Promise<Sandbox | undefined>;
  // Undefined when the sandbox is not as it was seen any more: nothing changed then.
  move(seen: Sandbox, move: Move): Promise<Sandbox | undefined>;
}

export interface TemplateStore {
  put(template: Template): Promise<void>;
  // By name.
  list(): Promise<Template[]>;
  find(name: string): Promise<Template | undefined>;
}

export interface QuotaStore {
  put(quota: Quota): Promise<void>;
}

export interface HostStore {
  report(report: HostReport): Promise<void>;
  find(id: string): Promise<Host | undefined>;
  list(): Promise<HostLoad[]>;
}

export interface StageTiming {
  readonly stage: string;
  readonly startedAfterMs: number;
  readonly durationMs: number;
}

export interface HostVm {
  readonly sandboxId: SandboxId;
  readonly state: 'starting' | 'running' | 'stopping' | 'dead';
  // IPv4, while it runs.
  readonly guestAddress: string;
  readonly isDead: boolean;
  readonly deathReason: string;
  readonly deathMessage: string;
}

export interface NewVm {
  readonly id: SandboxId;
  readonly template: Pick<Template, 'name' | 'image' | 'defaultUser'>;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly env: Readonly<Record<string, string>>;
  readonly access: Pick<Access, 'accessToken'>;
  // Restored instead of booted: then the sizes are the snapshot's.
  readonly snapshot?: { readonly id: SnapshotId };
}

export interface Freezing {
  readonly sandboxId: SandboxId;
  readonly snapshotId: SnapshotId;
  readonly keepRunning: boolean;
}

export interface Frozen {
  readonly isDurable: boolean;
  readonly timings: readonly StageTiming[];
}

// The VMs of hosts; an address is where a host's vm-runtime serves.
export interface HostVms {
  create(
    address: string,
    vm: NewVm,
    call: OutboundCall,
  ): Promise<{ guestAddress: string; timings: readonly StageTiming[] }>;
  destroy(address: string, id: SandboxId, call: OutboundCall): Promise<void>;
  list(address: string, call: OutboundCall): Promise<HostVm[]>;
  // Freezes a VM into a snapshot; repeating it is a success once the snapshot is there.
  freeze(address: string, freezing: Freezing, call: OutboundCall): Promise<Frozen>;
}

// The snapshots of hosts.
export interface HostSnapshots {
  // With `isDurable` it waits until that is so. Throws SNAPSHOT_NOT_FOUND.
  get(
    address: string,
    id: SnapshotId,
    wanted: { readonly isDurable: boolean },
    call: OutboundCall,
  ): Promise<HostSnapshot>;
  list(address: string, call: OutboundCall): Promise<HostSnapshot[]>;
  delete(address: string, id: SnapshotId, call: OutboundCall): Promise<void>;
}

export interface EventSource {
  // In commit order, behind `after`.
  read(after: bigint, sandboxId: SandboxId | undefined, limit: number): Promise<SandboxEvent[]>;
  newestSequence(): Promise<bigint>;
}

// Says that an event was committed; may ring too often, never too seldom.
export interface Bell {
  // For events of one sandbox, or of all; 'room': for sandboxes that hold nothing any more.
  subscribe(topic: SandboxId | 'room' | undefined): Subscription;
}

export interface Subscription {
  // Resolves once the bell has rung since the last time this resolved, or when `signal` aborts.
  rung(signal: AbortSignal): Promise<void>;
  close(): void;
}

// What vm-runtime knows of one microVM, and the parts of the world it is made of.
import type { OutboundCall } from '@wrenn/kit/deadlines';
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';
import type { ProcessIdentity } from '@wrenn/kit/process-identity';
import type { StageTimer } from '@wrenn/kit/stage-timer';

import type { CloseReason, GuestAgent } from './guest-agent.ts';
import type { MemorySource } from './memory-source.ts';
import type { OpenedSnapshot, VmmFacts } from './snapshot.ts';

// Who a guest is told to be.
export interface GuestSpec {
  readonly sandboxId: SandboxId;
  readonly template: string;
  readonly env: Readonly<Record<string, string>>;
  readonly defaultUser: string;
}

export interface BootSpec extends GuestSpec {
  readonly kind: 'boot';
  readonly image: string;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

export interface RestoreSpec extends GuestSpec {
  readonly kind: 'restore';
  readonly snapshotId: SnapshotId;
  readonly memorySource?: MemorySource; // Whichever costs less where it is not given.
}

// Without a secret of its own it is given one.
export type VmSpec = (BootSpec | RestoreSpec) & { readonly accessToken?: string };

export interface Slot {
  readonly namespace: string;
  readonly tap: string;
  readonly guestMac: string;
  readonly guestAddress: string;
  readonly vmmUid: number;
}

export interface Death {
  readonly reason:
    | 'VMM_DIED'
    | 'VMM_STUCK'
    | 'GUEST_SHUTDOWN'
    | 'RELEASE_FAILED'
    | 'PAGER_DIED'
    | 'MEMORY_CORRUPT'
    | 'FREEZE_FAILED';
  readonly message: string;
}

// What the next life of this service, and the next snapshot, must know of a running VM.
export interface VmFacts {
  readonly guest: GuestSpec;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly snapshotId?: SnapshotId; // What it was restored from.
  readonly guestAddress: string;
  readonly accessToken: string; // Signs the URLs of its files.
  readonly processes: MachineProcesses;
}

export interface MachineProcesses {
  readonly vmm: ProcessIdentity;
  readonly memory: MemorySource | 'boot';
  readonly pager?: ProcessIdentity;
}

export interface RunningVm {
  readonly machine: Machine;
  readonly agent: GuestAgent;
  readonly facts: VmFacts;
}

export type VmState =
  | { readonly name: 'starting' | 'stopping' }
  // `thawing`: it could not be frozen, and does not run again yet.
  | ({ readonly name: 'running' | 'freezing' | 'thawing' } & RunningVm)
  // For good: the store is still to take its files, which are its snapshot, and what it held is being released.
  | { readonly name: 'frozen' }
  | { readonly name: 'dead'; readonly death: Death; readonly machine?: Machine };

// What the journal keeps of a VM. `starting` is written before anything is acquired; every resource bears
// the sandbox id, so that a restart can find and release what such a VM had got so far. `freezing`: the VM may
// stand still, and goes on after a restart. `frozen`: its files are complete, and it must not go on.
export type VmRecord = { readonly sandboxId: SandboxId; readonly createdAtMs: number } & (
  | { readonly phase: 'starting' }
  | { readonly phase: 'running' | 'freezing'; readonly facts: VmFacts }
  | { readonly phase: 'frozen'; readonly facts: VmFacts; readonly order: FreezeOrder }
);

export type FrozenRecord = Extract<VmRecord, { phase: 'frozen' }>;

export interface FreezeOrder {
  readonly snapshotId: SnapshotId;
  readonly keepRunning: boolean;
}

// A VMM process with a guest inside.
export interface Machine {
  readonly processes: MachineProcesses;
  // Resolves once the guest has stopped for ever or the VMM is gone.
  readonly ended: Promise<Death>;
  // Whether it answers on its control socket; never rejects.
  isAnswering(limitMs: number): Promise<boolean>;
  // The end of the guest's serial console, at most 64 KiB.
  readConsole(): Promise<Uint8Array>;
  // What it has written since it was taken the last time; what was lost in between is said in it.
  takeConsole(): Promise<Uint8Array>;
  // Readies what can be readied while the guest runs, so that it stands still for the rest alone.
  readyFreeze(): Promise<Freezing>;
  // Lets the vCPUs run on, whether they were stopped or not.
  goOn(): Promise<void>;
}

// Leaving it undone calls it off.
export interface Freezing extends Disposable {
  // Stops the vCPUs and leaves RAM and device state in the VM's frozen directory.
  carryOut(timer: StageTimer): Promise<void>;
}

export interface Launch {
  readonly sandboxId: SandboxId;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly slot: Slot;
  readonly diskPath: string;
  readonly restore?: { readonly snapshot: OpenedSnapshot; readonly memorySource: MemorySource }; // Else it boots.
}

// One kind of VMM. Everything it makes for a machine bears the sandbox id.
export interface Vmm {
  // What its machines are, as far as a snapshot depends on it.
  facts(): Promise<VmmFacts>;
  // A restored machine stands still until it is told to go on. Errors: VMM_START_FAILED.
  start(launch: Launch, signal: AbortSignal): Promise<Machine>;
  // Takes charge of a machine that an earlier life of this service started, without waiting for it to answer;
  // undefined if it is gone.
  adopt(sandboxId: SandboxId, processes: MachineProcesses): Machine | undefined;
  // Kills a machine: it does nothing any more when this returns, though its end takes a while.
  strike(processes: MachineProcesses): void;
  // Resolves once a struck machine has ended, its pager included.
  awaitEnd(sandboxId: SandboxId, processes: MachineProcesses): Promise<void>;
  // Kills whatever runs for a sandbox, known to this life or not, and waits for its end; its files stay.
  kill(sandboxId: SandboxId): Promise<void>;
  // Where `freeze` left RAM and device state.
  frozenDirectory(sandboxId: SandboxId): string;
  // Kills whatever runs for a sandbox and removes all it had on the host, known to this life or not.
  release(sandboxId: SandboxId): Promise<void>;
}

export interface Slots {
  lease(owner: SandboxId, call: OutboundCall): Promise<Slot>;
  release(owner: SandboxId): Promise<void>;
  owners(): Promise<SandboxId[]>;
}

export interface Disks {
  create(spec: BootSpec, call: OutboundCall): Promise<{ path: string }>;
  delete(id: SandboxId): Promise<void>;
  ids(): Promise<SandboxId[]>;
}

export interface Journal {
  write(record: VmRecord): Promise<void>;
  remove(sandboxId: SandboxId): Promise<void>;
  readAll(): Promise<VmRecord[]>;
}

export interface AgentDialer {
  dial(guestAddress: string, accessToken: string): GuestAgent;
}

// Who keeps what the consoles of running sandboxes say.
export interface Consoles {
  add(sandboxId: SandboxId, machine: Machine): void;
  // Takes its last words. Idempotent.
  remove(sandboxId: SandboxId): void;
}

// Where the files of running sandboxes are served, apart from all else.
export interface BulkServer {
  add(sandboxId: SandboxId, guestAddress: string, accessToken: string): void;
  // Resolves once none of its transfers is under way, or with how many are when the limit is over.
  drain(sandboxId: SandboxId, limitMs: number): Promise<number>;
  // Cuts its transfers. Idempotent.
  remove(sandboxId: SandboxId, why: CloseReason): void;
}

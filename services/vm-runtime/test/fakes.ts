// Stand-ins for the world around a VM, to provoke faults that the real one does not give on demand.
import { create } from '@bufbuild/protobuf';
import type { OutboundCall } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';
import { type Snapshot, SnapshotSchema } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import type {
  CloseReason,
  Command,
  GuestAgent,
  PortChange,
  ProcessEvent,
  Selector,
  StartOptions,
} from '../src/domain/guest-agent.ts';
import type { GuestFiles } from '../src/domain/guest-files.ts';
import type { OpenedSnapshot, Snapshots, StageRequest, VmmFacts } from '../src/domain/snapshot.ts';
import type {
  BulkServer,
  Consoles,
  Death,
  Disks,
  Freezing,
  Journal,
  Launch,
  Machine,
  MachineProcesses,
  Slots,
  VmRecord,
  Vmm,
} from '../src/domain/vm.ts';

export class FakeSlots implements Slots {
  readonly leased = new Set<SandboxId>();
  failure: Error | undefined;
  releaseFailure: Error | undefined;
  listFailure: Error | undefined;

  async lease(owner: SandboxId) {
    this.leased.add(owner);
    // As when the answer is lost: the slot is leased all the same.
    if (this.failure) throw this.failure;
    return { namespace: 'ns', tap: 'tap0', guestMac: '02:fc:00:00:00:05', guestAddress: '10.11.0.1', vmmUid: 200001 };
  }

  async release(owner: SandboxId): Promise<void> {
    if (this.releaseFailure) throw this.releaseFailure;
    this.leased.delete(owner);
  }

  async owners(): Promise<SandboxId[]> {
    if (this.listFailure) throw this.listFailure;
    return [...this.leased];
  }
}

export class FakeDisks implements Disks {
  readonly made = new Set<SandboxId>();
  failure: Error | undefined;

  async create({ sandboxId }: { sandboxId: SandboxId }) {
    this.made.add(sandboxId);
    if (this.failure) throw this.failure;
    return { path: `/disks/${sandboxId}` };
  }

  async delete(id: SandboxId): Promise<void> {
    this.made.delete(id);
  }

  async ids(): Promise<SandboxId[]> {
    return [...this.made];
  }
}

export class FakeMachine implements Machine {
  readonly processes = { vmm: { pid: 4242, startTicks: 1 }, memory: 'boot' as const };
  freezeFailure: Error | undefined;
  goOnFailure: Error | undefined;
  whileFreezing: (() => Promise<void>) | undefined;
  isStopped = false;
  readonly #ended = Promise.withResolvers<Death>();
  readonly ended = this.#ended.promise;

  isHealthy = true;

  async isAnswering(): Promise<boolean> {
    return this.isHealthy;
  }

  async readConsole(): Promise<Uint8Array> {
    if (!this.isHealthy) throw new WrennError('VMM_DIED', 'it gives none');
    return Buffer.from('last words');
  }

  async takeConsole(): Promise<Uint8Array> {
    return new Uint8Array();
  }

  async readyFreeze(): Promise<Freezing> {
    const carryOut = async () => {
      this.isStopped = true;
      await this.whileFreezing?.();
      if (this.freezeFailure) throw this.freezeFailure;
    };
    return { carryOut, [Symbol.dispose]: () => undefined };
  }

  async goOn(): Promise<void> {
    if (this.goOnFailure) throw this.goOnFailure;
    this.isStopped = false;
  }

  die(death: Death): void {
    this.#ended.resolve(death);
  }
}

export class FakeVmm implements Vmm {
  readonly madeOf = { vmm: 'qemu 1', accelerator: 'tcg', cpuModel: 'max', kernel: 'sha256:0' };
  readonly running = new Map<SandboxId, FakeMachine>();
  readonly launches: Launch[] = [];
  startCount = 0;
  failure: Error | undefined;
  startsHealthy = true;
  goOnFailure: Error | undefined; // Of those that it starts.
  readonly struck: MachineProcesses[] = [];
  #ends = Promise.resolve();

  async start(launch: Launch): Promise<Machine> {
    const { sandboxId } = launch;
    this.launches.push(launch);
    this.startCount++;
    const machine = new FakeMachine();
    machine.isHealthy = this.startsHealthy;
    machine.goOnFailure = this.goOnFailure;
    this.running.set(sandboxId, machine);
    if (this.failure) throw this.failure;
    return machine;
  }

  adopt(sandboxId: SandboxId): Machine | undefined {
    return this.running.get(sandboxId);
  }

  async facts(): Promise<VmmFacts> {
    return this.madeOf;
  }

  strike(processes: MachineProcesses): void {
    this.struck.push(processes);
  }

  awaitEnd(): Promise<void> {
    return this.#ends;
  }

  async kill(sandboxId: SandboxId): Promise<void> {
    await this.#ends;
    this.running.delete(sandboxId);
  }

  // Until what it returns is called, what is killed does not end.
  holdEnds(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ends = promise;
    return resolve;
  }

  frozenDirectory(sandboxId: SandboxId): string {
    return `/ram/${sandboxId}`;
  }

  release(sandboxId: SandboxId): Promise<void> {
    return this.kill(sandboxId);
  }
}

export class FakeSnapshots implements Snapshots {
  readonly staged = new Map<SnapshotId, StageRequest>();
  readonly opened: SnapshotId[] = [];
  readonly #disks: FakeDisks;
  readonly failures: Error[] = []; // Of the next calls to stage, in order.

  constructor(disks: FakeDisks) {
    this.#disks = disks;
  }

  async stage(request: StageRequest): Promise<Snapshot> {
    const failure = this.failures.shift();
    if (failure) throw failure;
    this.staged.set(request.snapshotId, request);
    return this.get(request.snapshotId);
  }

  async open(snapshotId: SnapshotId, diskId: SandboxId): Promise<OpenedSnapshot> {
    const request = this.staged.get(snapshotId);
    if (!request) throw new WrennError('SNAPSHOT_NOT_FOUND', 'none');
    this.#disks.made.add(diskId);
    this.opened.push(snapshotId);
    const paths = { headerPath: '/header', vmstatePath: '/vmstate', workingSetPath: '', diskPath: '/disk' };
    const sizes = { generation: 0, runCount: 1, workingSetPages: 0, changedBytes: 0 };
    return { machine: request.machine, memoryFiles: [], ...sizes, ...paths };
  }

  async get(snapshotId: SnapshotId): Promise<Snapshot> {
    const request = this.staged.get(snapshotId);
    if (!request) throw new WrennError('SNAPSHOT_NOT_FOUND', 'none');
    return create(SnapshotSchema, { id: snapshotId, sandboxId: request.sandboxId });
  }

  async list(): Promise<Snapshot[]> {
    return Promise.all([...this.staged.keys()].map((id) => this.get(id)));
  }

  async delete(snapshotId: SnapshotId): Promise<void> {
    this.staged.delete(snapshotId);
  }
}

export class FakeJournal implements Journal {
  readonly records = new Map<SandboxId, VmRecord>();

  async write(record: VmRecord): Promise<void> {
    this.records.set(record.sandboxId, record);
  }

  async remove(sandboxId: SandboxId): Promise<void> {
    this.records.delete(sandboxId);
  }

  async readAll(): Promise<VmRecord[]> {
    return [...this.records.values()];
  }
}

export class FakeBulk implements BulkServer {
  readonly guests = new Map<SandboxId, string>();

  add(sandboxId: SandboxId, guestAddress: string, accessToken: string): void {
    this.guests.set(sandboxId, `${guestAddress} ${accessToken}`);
  }

  async drain(): Promise<number> {
    return 0;
  }

  remove(sandboxId: SandboxId): void {
    this.guests.delete(sandboxId);
  }
}

// Plays a script of events; a kill makes it end by that signal.
export class FakeAgent implements GuestAgent {
  script: ProcessEvent[] = [];
  isEndless = false;
  isDeafToSignals = false;
  isListening = true;
  initFailure: Error | undefined;
  quiesceFailure: Error | undefined;
  isQuiet = false;
  inputFailure: Error | undefined;
  isClosed = false;
  closedFor: CloseReason | undefined;
  readonly input: string[] = [];
  readonly signals: number[] = [];
  readonly connectedAfter: (bigint | undefined)[] = [];
  portChanges: PortChange[] = [];
  isHealthy = true;
  files: GuestFiles = undefined as never; // Set by the tests that need it.
  readonly #killed = Promise.withResolvers<number>();

  async awaitListening(signal: AbortSignal): Promise<void> {
    if (!this.isListening) await aborted(signal);
  }

  async init(): Promise<void> {
    if (this.initFailure) throw this.initFailure;
    this.isQuiet = false;
  }

  async drain(): Promise<number> {
    return 0;
  }

  async quiesce(): Promise<void> {
    if (this.quiesceFailure) throw this.quiesceFailure;
    this.isQuiet = true;
  }

  start(_command: Command, _options: StartOptions, signal: AbortSignal): AsyncIterable<ProcessEvent> {
    const played = this.#play(signal);
    const next = () => played.next();
    // As a gRPC stream does whose call is cancelled, whatever it has delivered.
    const leave = async () => {
      if (signal.aborted) throw new WrennError('CANCELLED', 'cancelled');
      return played.return();
    };
    return { [Symbol.asyncIterator]: () => ({ next, return: leave }) };
  }

  async *#play(signal: AbortSignal): AsyncGenerator<ProcessEvent, void> {
    yield { kind: 'started', pid: 7 };
    yield* this.script;
    if (!this.isEndless) return;
    const number = await Promise.race([this.#killed.promise, aborted(signal)]);
    yield { kind: 'exited', sequence: 1n, exitCode: 128 + number, signal: number };
  }

  connect(_selector: Selector, afterSequence: bigint | undefined, signal: AbortSignal): AsyncIterable<ProcessEvent> {
    this.connectedAfter.push(afterSequence);
    return this.start({ command: '', args: [], env: {}, cwd: '', user: '' }, { hasStdin: false }, signal);
  }

  view(selector: Selector, afterSequence: bigint | undefined, signal: AbortSignal): AsyncIterable<ProcessEvent> {
    return this.connect(selector, afterSequence, signal);
  }

  async sendKeys(_selector: Selector, keys: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const data of keys) this.input.push(Buffer.from(data).toString());
  }

  async resize(): Promise<void> {}

  async signalForeground(selector: Selector, signal: number): Promise<void> {
    await this.signal(selector, signal);
  }

  async sendInput(_selector: Selector, data: Uint8Array): Promise<void> {
    if (this.inputFailure) throw this.inputFailure;
    this.input.push(Buffer.from(data).toString());
  }

  async closeStdin(): Promise<void> {
    this.input.push('<eof>');
  }

  async signal(_selector: Selector, signal: number): Promise<void> {
    this.signals.push(signal);
    if (!this.isDeafToSignals) this.#killed.resolve(signal);
  }

  async list(_call: OutboundCall) {
    return [];
  }

  async *watchPorts(): AsyncGenerator<PortChange, void> {
    yield* this.portChanges;
  }

  async isAnswering(): Promise<boolean> {
    return this.isHealthy;
  }

  close(why: CloseReason): void {
    this.isClosed = true;
    this.closedFor = why;
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const give = () => reject(new WrennError('CANCELLED', 'cancelled'));
    if (signal.aborted) give();
    signal.addEventListener('abort', give, { once: true });
  });
}

export class FakeConsoles implements Consoles {
  readonly watched = new Set<SandboxId>();

  add(sandboxId: SandboxId): void {
    this.watched.add(sandboxId);
  }

  remove(sandboxId: SandboxId): void {
    this.watched.delete(sandboxId);
  }
}

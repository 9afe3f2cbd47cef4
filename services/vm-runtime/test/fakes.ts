// Stand-ins for the world around a VM, to provoke faults that the real one does not give on demand.
import type { OutboundCall } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';

import type {
  Command,
  GuestAgent,
  PortChange,
  ProcessEvent,
  Selector,
  StartOptions,
} from '../src/domain/guest-agent.ts';
import type { GuestFiles } from '../src/domain/guest-files.ts';
import type { BulkServer, Death, Disks, Journal, Launch, Machine, Slots, VmRecord, Vmm } from '../src/domain/vm.ts';

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
  readonly process = { pid: 4242, startTicks: 1 };
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

  die(death: Death): void {
    this.#ended.resolve(death);
  }
}

export class FakeVmm implements Vmm {
  readonly running = new Map<SandboxId, FakeMachine>();
  startCount = 0;
  failure: Error | undefined;
  startsHealthy = true;

  async start({ sandboxId }: Launch): Promise<Machine> {
    this.startCount++;
    const machine = new FakeMachine();
    machine.isHealthy = this.startsHealthy;
    this.running.set(sandboxId, machine);
    if (this.failure) throw this.failure;
    return machine;
  }

  adopt(sandboxId: SandboxId): Machine | undefined {
    return this.running.get(sandboxId);
  }

  async release(sandboxId: SandboxId): Promise<void> {
    this.running.delete(sandboxId);
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
  inputFailure: Error | undefined;
  isClosed = false;
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

  close(): void {
    this.isClosed = true;
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const give = () => reject(new WrennError('CANCELLED', 'cancelled'));
    if (signal.aborted) give();
    signal.addEventListener('abort', give, { once: true });
  });
}

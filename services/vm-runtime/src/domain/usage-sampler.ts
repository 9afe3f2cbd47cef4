// Looks at what every running VM has taken from the host, one after the other, every 5 s. Where there are so many that
// a look takes long, it comes less often: at most a twentieth of the time is spent on it.
import type { Clock } from '@wrenn/kit/clock';
import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import { setTimeout as sleep } from 'node:timers/promises';

import { type Usage, UsageHistory } from './usage-history.ts';
import type { MachineProcesses } from './vm.ts';

// Since the VM was started, but for what it holds now.
export interface UsageCounters {
  readonly cpuMs: number;
  readonly memoryBytes: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

export interface UsageMeter {
  // Undefined where it is gone.
  read(sandboxId: SandboxId, processes: MachineProcesses): Promise<UsageCounters | undefined>;
  diskBytes(): Promise<ReadonlyMap<SandboxId, number>>;
}

export interface RunningMachine {
  readonly sandboxId: SandboxId;
  readonly processes: MachineProcesses;
}

export interface UsageSamplerParts {
  readonly running: () => readonly RunningMachine[];
  readonly meter: UsageMeter;
  readonly clock: Clock;
  readonly log: Log;
}

interface Look {
  readonly atMs: number; // Of the monotonic clock.
  readonly processes: MachineProcesses;
  readonly counters: UsageCounters;
}

const everyMs = 5000;
const largestShare = 1 / 20;
const keptMs = 86_400_000;
const maxHistories = 2000;

export class UsageSampler {
  readonly #parts: UsageSamplerParts;
  readonly #histories = new Map<SandboxId, UsageHistory>(); // The one written to last is last.
  readonly #looks = new Map<SandboxId, Look>();
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;
  #disks: ReadonlyMap<SandboxId, number> = new Map();

  constructor(parts: UsageSamplerParts) {
    this.#parts = parts;
  }

  history(sandboxId: SandboxId): UsageHistory | undefined {
    return this.#histories.get(sandboxId);
  }

  start(): void {
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async sample(): Promise<void> {
    const { running, meter, log } = this.#parts;
    const machines = running();
    // A store that is away costs the sizes of disks their newness.
    if (machines.length > 0) this.#disks = await meter.diskBytes().catch(() => this.#disks);
    for (const machine of machines) {
      try {
        await this.#sampleOne(machine);
      } catch (error) {
        log.debug({ err: error, sandbox: machine.sandboxId }, 'not measured');
      }
    }
    const ids = new Set(machines.map(({ sandboxId }) => sandboxId));
    for (const id of this.#looks.keys()) if (!ids.has(id)) this.#looks.delete(id);
    this.#forget();
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const startMs = performance.now();
      await this.sample();
      const tookMs = performance.now() - startMs;
      await sleep(Math.max(everyMs - tookMs, tookMs / largestShare), undefined, { signal }).catch(() => undefined);
    }
  }

  // What a VM did before the first look at it counts nowhere.
  async #sampleOne({ sandboxId, processes }: RunningMachine): Promise<void> {
    const counters = await this.#parts.meter.read(sandboxId, processes);
    if (!counters) return;
    const atMs = performance.now();
    const before = this.#looks.get(sandboxId);
    this.#looks.set(sandboxId, { atMs, processes, counters });
    if (before?.processes.vmm.pid !== processes.vmm.pid) return;
    this.#note(sandboxId, {
      endMs: this.#parts.clock.now().getTime(),
      coveredMs: atMs - before.atMs,
      cpuMs: counters.cpuMs - before.counters.cpuMs,
      memoryBytes: counters.memoryBytes,
      diskBytes: this.#disks.get(sandboxId) ?? 0,
      receivedBytes: counters.receivedBytes - before.counters.receivedBytes,
      sentBytes: counters.sentBytes - before.counters.sentBytes,
    });
  }

  #note(sandboxId: SandboxId, usage: Usage): void {
    const history = this.#histories.get(sandboxId) ?? new UsageHistory();
    this.#histories.delete(sandboxId);
    this.#histories.set(sandboxId, history);
    history.add(usage);
  }

  #forget(): void {
    const oldestMs = this.#parts.clock.now().getTime() - keptMs;
    for (const [id, { endMs }] of this.#histories) {
      if (endMs > oldestMs && this.#histories.size <= maxHistories) return;
      this.#histories.delete(id);
    }
  }
}

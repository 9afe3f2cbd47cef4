// Tells the scheduler, again and again, that this host is there and what it can hold.
import { availableParallelism, totalmem } from 'node:os';
import { statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import { inMs } from '@wrenn/kit/deadlines';
import type { Lanes } from '@wrenn/kit/lanes';
import type { Log } from '@wrenn/kit/log';
import { untraced } from '@wrenn/kit/telemetry/span';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';

const periodMs = 3000;
const callLimitMs = 2000;
// What the host keeps for itself.
const sharePercent = 80;
const keptDiskBytes = 2 ** 30;
const diskOvercommit = 4;

export interface HostFacts {
  readonly hostId: string;
  readonly address: string;
  readonly bulkAddress: string;
  readonly vmm: string;
  readonly accelerator: string;
  readonly memoryBytes: number;
}

// The memory that guests may use together: a share of the host's, and never more than the tmpfs holds.
export async function guestMemoryBytes(ramDir: string): Promise<number> {
  const { bsize, blocks } = await statfs(ramDir);
  return Math.floor(Math.min((totalmem() * sharePercent) / 100, bsize * blocks));
}

// How large the disks of sandboxes may be together where `dir` is: a multiple of what is free and what those that
// are there take already, since a disk takes only what was written to it and few are ever filled. Where too many
// are, the guests get I/O errors, and no new disk is made.
export async function guestDiskBytes(dir: string, takenBytes: number): Promise<number> {
  const { bsize, bavail } = await statfs(dir);
  return Math.max(1, (bsize * bavail + takenBytes - keptDiskBytes) * diskOvercommit); // 0 would mean that it is not known.
}

export interface HostCapacity {
  slotCount(): Promise<number>;
  diskBytes(): Promise<number>;
}

export class HostReport {
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(scheduler: Lanes, facts: HostFacts, host: HostCapacity, log: Log) {
    this.#running = untraced(() => this.#run(scheduler, facts, host, log));
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(scheduler: Lanes, facts: HostFacts, host: HostCapacity, log: Log): Promise<void> {
    const client = scheduler.client('control', SchedulerService);
    let isHeard = true;
    let diskBytes = 0;
    while (!this.#stop.signal.aborted) {
      try {
        const slotCount = await host.slotCount();
        diskBytes = await host.diskBytes().catch(() => diskBytes); // A store that is down takes no room away.
        const capacity = {
          cpuCount: availableParallelism(),
          memoryBytes: BigInt(facts.memoryBytes),
          slotCount,
          diskBytes: BigInt(diskBytes),
          vmm: facts.vmm,
          accelerator: facts.accelerator,
        };
        const call = inMs(callLimitMs, this.#stop.signal);
        const { hostId, address, bulkAddress } = facts;
        await client.reportHost({ hostId, address, bulkAddress, capacity }, call);
        if (!isHeard) log.info('the scheduler hears this host again');
        isHeard = true;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        if (isHeard) log.warn({ err: error }, 'the scheduler does not hear this host');
        isHeard = false;
      }
      await this.#pause(isHeard ? periodMs : periodMs / 6);
    }
  }

  async #pause(ms: number): Promise<void> {
    try {
      await sleep(ms, undefined, { signal: this.#stop.signal });
    } catch (error) {
      if (!this.#stop.signal.aborted) throw error;
    }
  }
}

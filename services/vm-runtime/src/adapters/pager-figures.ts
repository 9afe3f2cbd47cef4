// What the pagers of a host have done, all together. Each tells its own counters, from its start; they are added up
// here as they grow, so that the sum does not fall when one ends.
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';

import type { SandboxId } from '@wrenn/kit/ids';
import { type Family, type Sample } from '@wrenn/kit/metrics/family';
import { z } from 'zod';

import type { RunningMachine } from '../domain/usage-sampler.ts';

const countersShape = z.object({
  faults: z.number(),
  prefetched_pages: z.number(),
  copied_bytes: z.number(),
  service_us: z.array(z.number()),
});
type Counters = z.infer<typeof countersShape>;

const askLimitMs = 500;
const slotCount = 24;
const none: Counters = { faults: 0, prefetched_pages: 0, copied_bytes: 0, service_us: Array(slotCount).fill(0) };

export class PagerFigures {
  readonly #running: () => readonly RunningMachine[];
  readonly #socketOf: (sandboxId: SandboxId) => string;
  readonly #seen = new Map<number, Counters>(); // By pid.
  #sum = none;

  constructor(running: () => readonly RunningMachine[], socketOf: (sandboxId: SandboxId) => string) {
    this.#running = running;
    this.#socketOf = socketOf;
  }

  async read(): Promise<Family[]> {
    const pids = new Set<number>();
    for (const { sandboxId, processes } of this.#running()) {
      if (!processes.pager) continue;
      const { pid } = processes.pager;
      pids.add(pid);
      const counters = await ask(this.#socketOf(sandboxId)).catch(() => undefined); // It may be at its end.
      if (!counters) continue;
      const before = this.#seen.get(pid) ?? none;
      this.#seen.set(pid, counters);
      this.#sum = combined(this.#sum, combined(counters, before, -1), 1);
    }
    for (const pid of this.#seen.keys()) if (!pids.has(pid)) this.#seen.delete(pid);
    return familiesOf(this.#sum, pids.size);
  }
}

async function ask(socketPath: string): Promise<Counters> {
  const socket = connect(socketPath);
  socket.setTimeout(askLimitMs, () => socket.destroy(new Error('the pager does not answer')));
  return countersShape.parse(JSON.parse(await text(socket)));
}

function combined(a: Counters, b: Counters, sign: 1 | -1): Counters {
  return {
    faults: a.faults + sign * b.faults,
    prefetched_pages: a.prefetched_pages + sign * b.prefetched_pages,
    copied_bytes: a.copied_bytes + sign * b.copied_bytes,
    service_us: a.service_us.map((count, n) => count + sign * (b.service_us[n] ?? 0)),
  };
}

function familiesOf(sum: Counters, pagerCount: number): Family[] {
  const one = (sample: Omit<Sample, 'labels'>) => [{ labels: {}, ...sample }];
  // Slot n has those that took under 2^n µs; what they took together is known to a factor of two.
  const buckets = sum.service_us.map((count, n) => ({ upTo: n === slotCount - 1 ? Infinity : 2 ** n / 1e6, count }));
  const seconds = sum.service_us.reduce((total, count, n) => total + (count * 0.75 * 2 ** n) / 1e6, 0);
  return [
    {
      name: 'wrenn_vm_runtime_pagers',
      type: 'gauge',
      help: 'Pagers that serve a VM now.',
      samples: one({ value: pagerCount }),
    },
    {
      name: 'wrenn_vm_runtime_pager_copied_bytes',
      type: 'counter',
      help: 'Memory that pagers gave to VMs.',
      samples: one({ value: sum.copied_bytes }),
    },
    {
      name: 'wrenn_vm_runtime_pager_prefetched_pages',
      type: 'counter',
      help: 'Pages that were given before anybody asked for them.',
      samples: one({ value: sum.prefetched_pages }),
    },
    {
      name: 'wrenn_vm_runtime_pager_fault_seconds',
      type: 'histogram',
      help: 'Faults by the time that serving them took; the sum is an estimate.',
      samples: one({ value: seconds, buckets }),
    },
  ];
}

import { WrennError } from '@wrenn/kit/errors';

import { type HostLoad, isAlive } from './host.ts';

// Chooses the host for a sandbox, or throws NO_HOST_LEFT saying why each host was refused.
export type Placement = (hosts: readonly HostLoad[], need: Need, now: Date) => HostLoad;

export interface Need {
  readonly memoryBytes: number;
}

const MiB = 1024 * 1024;

// The host that is least full afterwards, in memory or in slots, whichever is the fuller; ties by id.
export const leastLoaded: Placement = (hosts, need, now) => {
  const refusals: string[] = [];
  let best: { host: HostLoad; load: number } | undefined;
  for (const host of hosts.toSorted((a, b) => (a.id < b.id ? -1 : 1))) {
    const refusal = refusalOf(host, need, now);
    if (refusal !== undefined) refusals.push(`${host.id} ${refusal}`);
    else {
      const load = loadWith(host, need);
      if (!best || load < best.load) best = { host, load };
    }
  }
  if (best) return best.host;
  const why = refusals.length > 0 ? refusals.join('; ').slice(0, 1000) : 'no host ever reported';
  throw new WrennError('NO_HOST_LEFT', `no host can take the sandbox: ${why}`);
};

function refusalOf(host: HostLoad, need: Need, now: Date): string | undefined {
  if (!isAlive(host, now)) return 'has been silent for more than 15 s';
  if (host.sandboxCount >= host.slotCount) return `has all of its ${host.slotCount} slots in use`;
  const freeBytes = host.memoryBytes - host.placedMemoryBytes;
  if (freeBytes < need.memoryBytes) {
    return `has ${Math.floor(freeBytes / MiB)} MiB of memory left, ${need.memoryBytes / MiB} are needed`;
  }
  return undefined;
}

function loadWith(host: HostLoad, need: Need): number {
  const memory = (host.placedMemoryBytes + need.memoryBytes) / host.memoryBytes;
  const slots = (host.sandboxCount + 1) / host.slotCount;
  return Math.max(memory, slots);
}

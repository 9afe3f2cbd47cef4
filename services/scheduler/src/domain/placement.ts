import { WrennError } from '@wrenn/kit/errors';

import { type HostLoad, isAlive } from './host.ts';

// Chooses the host for a sandbox, or throws NO_HOST_LEFT saying why each host was refused.
export type Placement = (hosts: readonly HostLoad[], need: Need, now: Date) => HostLoad;

export interface Need {
  // One unless it says otherwise.
  readonly sandboxCount?: number;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

const MiB = 1024 * 1024;
// Virtual CPUs on one host CPU: most sandboxes wait most of the time.
const vcpusPerCpu = 8;

interface Resource {
  readonly name: string;
  total(host: HostLoad): number;
  used(host: HostLoad): number;
  needed(need: Need): number;
  shortage(free: number, needed: number, host: HostLoad): string;
}

const mib = (bytes: number) => Math.floor(bytes / MiB);

const resources: readonly Resource[] = [
  {
    name: 'slot_count',
    total: (host) => host.slotCount,
    used: (host) => host.sandboxCount,
    needed: ({ sandboxCount = 1 }) => sandboxCount,
    shortage: (free, needed, host) =>
      free > 0 ? `${free} slots left, ${needed} are needed` : `all of its ${host.slotCount} slots in use`,
  },
  {
    name: 'memory_bytes',
    total: (host) => host.memoryBytes,
    used: (host) => host.placedMemoryBytes,
    needed: (need) => need.memoryBytes,
    shortage: (free, needed) => `${mib(free)} MiB of memory left, ${mib(needed)} are needed`,
  },
  {
    name: 'vcpu_count',
    total: (host) => host.cpuCount * vcpusPerCpu,
    used: (host) => host.placedVcpuCount,
    needed: (need) => need.vcpuCount,
    shortage: (free, needed) => `${free} vCPUs left, ${needed} are needed`,
  },
  {
    name: 'disk_bytes',
    total: (host) => (host.diskBytes === 0 ? Infinity : host.diskBytes),
    used: (host) => host.placedDiskBytes,
    needed: (need) => need.diskBytes,
    shortage: (free, needed) => `${mib(free)} MiB of disk left, ${mib(needed)} are needed`,
  },
];

// The host that is least full afterwards, in the resource that is fullest there; ties by id.
export const leastLoaded: Placement = (hosts, need, now) => {
  let best: { host: HostLoad; load: number } | undefined;
  for (const host of hosts.toSorted((a, b) => (a.id < b.id ? -1 : 1))) {
    if (!isAlive(host, now) || lackingOn(host, need).length > 0) continue;
    const load = Math.max(...resources.map((each) => (each.used(host) + each.needed(need)) / each.total(host)));
    if (!best || load < best.load) best = { host, load };
  }
  if (best) return best.host;
  throw noHostLeft(hosts, need, now);
};

function noHostLeft(hosts: readonly HostLoad[], need: Need, now: Date): WrennError {
  const refusals = hosts
    .toSorted((a, b) => (a.id < b.id ? -1 : 1))
    .map((host) => {
      if (!isAlive(host, now)) return `${host.id} has been silent for more than 15 s`;
      const shortages = lackingOn(host, need).map((each) => each.shortage(freeOn(host, each), each.needed(need), host));
      return `${host.id} has ${shortages.join(' and ')}`;
    });
  const why = refusals.length > 0 ? refusals.join('; ').slice(0, 1000) : 'no host ever reported';
  const alive = hosts.filter((host) => isAlive(host, now));
  return new WrennError('NO_HOST_LEFT', `no host can take the sandbox: ${why}`, { meta: metaOf(alive, need) });
}

// What ran out, and of each resource what the host that has most of it has left.
function metaOf(alive: readonly HostLoad[], need: Need): Record<string, string> {
  const lacking = resources.filter((each) => alive.some((host) => lackingOn(host, need).includes(each)));
  const meta: Record<string, string> = { ran_out: lacking.map(({ name }) => name).join(',') || 'hosts' };
  for (const each of resources) {
    const most = Math.max(0, ...alive.map((host) => freeOn(host, each)));
    if (most !== Infinity) meta[`free_${each.name}`] = String(most);
    meta[`needed_${each.name}`] = String(each.needed(need));
  }
  const tooLarge = resources.filter(
    (each) => alive.length > 0 && alive.every((host) => each.total(host) < each.needed(need)),
  );
  // Waiting for sandboxes to end does not help then.
  if (tooLarge.length > 0) meta['too_large'] = tooLarge.map(({ name }) => name).join(',');
  return meta;
}

function freeOn(host: HostLoad, resource: Resource): number {
  return resource.total(host) - resource.used(host);
}

function lackingOn(host: HostLoad, need: Need): readonly Resource[] {
  return resources.filter((each) => freeOn(host, each) < each.needed(need));
}

import { WrennError } from '@wrenn/kit/errors';

import type { Host } from './host.ts';
import type { HostStore } from './ports.ts';

// Hosts are never forgotten, so one that is not there is a fault of ours.
export async function requireHost(hosts: HostStore, id: string | undefined): Promise<Host> {
  const host = id === undefined ? undefined : await hosts.find(id);
  if (!host) throw new WrennError('INTERNAL', `there is no host ${String(id)}`);
  return host;
}

// Named network namespaces, as `ip netns` keeps them, and the processes that make a slot inhabited.
import { readdirSync, readlinkSync, statSync } from 'node:fs';

import { identifyProcess } from '@wrenn/kit/process-identity';

import type { Slot } from '../domain/slot.ts';

export const namespacesDir = '/run/netns';

export function namespacePath(namespace: string): string {
  return `${namespacesDir}/${namespace}`;
}

// Pids of the processes that live in the slot's namespace or run as its user. Zombies do no harm.
export function inhabitantsOf(slot: Slot): number[] {
  const inode = statSync(namespacePath(slot.namespace), { throwIfNoEntry: false })?.ino;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => userOf(pid) === slot.vmmUid || (inode !== undefined && networkOf(pid) === `net:[${inode}]`))
    .filter((pid) => identifyProcess(pid) !== undefined);
}

function userOf(pid: number): number | undefined {
  return statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid;
}

function networkOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch (error) {
    // It has ended, or it is more privileged than this service, as a container's first process may be.
    if (['ENOENT', 'ESRCH', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

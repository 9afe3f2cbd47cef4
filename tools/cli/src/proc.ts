// What runs on this machine, as /proc tells it.
import { readFileSync, readdirSync } from 'node:fs';

import { type ProcessIdentity, hasEndedWithin, identifyProcess, signalProcess } from '@wrenn/kit/process-identity';

export interface ProcessView extends ProcessIdentity {
  readonly args: readonly string[];
}

// Every process that has arguments (kernel threads have none).
export function listProcesses(): ProcessView[] {
  const found: ProcessView[] = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const identity = identifyProcess(Number(entry));
    const args = readProcFile(`/proc/${entry}/cmdline`)?.split('\0').slice(0, -1) ?? [];
    if (identity && args.length > 0) found.push({ ...identity, args });
  }
  return found;
}

// This process and those that started it: a command line that names a mesh is no part of that mesh.
export function ownAncestry(): Set<number> {
  const pids = new Set<number>();
  for (let pid = process.pid; pid > 0 && !pids.has(pid); pid = parentOf(pid)) pids.add(pid);
  return pids;
}

// Ends a process: the first signal, and SIGKILL if it is still there after `graceMs`.
export async function endProcess(
  identity: ProcessIdentity,
  graceMs: number,
  first: NodeJS.Signals = 'SIGTERM',
): Promise<void> {
  signalProcess(identity, first);
  if (await hasEndedWithin(identity, graceMs)) return;
  signalProcess(identity, 'SIGKILL');
  await hasEndedWithin(identity, 10_000);
}

function parentOf(pid: number): number {
  return Number(statOf(pid)?.[1] ?? 0);
}

export function leadsSession(pid: number): boolean {
  return Number(statOf(pid)?.[3]) === pid;
}

// From the state on; the name before it may hold anything.
function statOf(pid: number): string[] | undefined {
  const stat = readProcFile(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
}

// A process may end between being listed and being read: then there is nothing to say about it.
function readProcFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}

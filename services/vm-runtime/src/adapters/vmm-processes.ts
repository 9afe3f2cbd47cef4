// Finds VMM processes by the name on their command line, so that one whose pid was never written down
// (this service died in between) is found all the same.
import { readFileSync, readdirSync } from 'node:fs';

import { type ProcessIdentity, identifyProcess } from '@wrenn/kit/process-identity';

export function processesNamed(name: string): ProcessIdentity[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => hasName(pid, name))
    .flatMap((pid) => identifyProcess(pid) ?? []);
}

function hasName(pid: number, name: string): boolean {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return args.some((arg, index) => arg === '-name' && args[index + 1] === name);
  } catch (error) {
    // It ended between the listing and the look.
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}

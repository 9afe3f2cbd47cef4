// Finds VMM processes by a value on their command line that is theirs alone, so that one whose pid was never written down
// (this service died in between) is found all the same.
import { readFileSync, readdirSync } from 'node:fs';

import { type ProcessIdentity, identifyProcess } from '@wrenn/kit/process-identity';

export function processesNamed(name: string, flag = '-name'): ProcessIdentity[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => hasName(pid, name, flag))
    .flatMap((pid) => identifyProcess(pid) ?? []);
}

function hasName(pid: number, name: string, flag: string): boolean {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return args.some((arg, index) => arg === flag && args[index + 1] === name);
  } catch (error) {
    // It ended between the listing and the look.
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}

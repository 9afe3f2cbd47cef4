// Runs jail-probe.py as what a VMM is: its uid, its namespaces, and no more rights than it has.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { ProcessIdentity } from '@wrenn/kit/process-identity';
import { runProgram } from '@wrenn/kit/run-program';

export interface Attempts {
  readonly read?: readonly string[];
  readonly write?: readonly string[];
  readonly list?: readonly string[];
  readonly make_in?: readonly string[];
  readonly connect?: readonly string[];
  readonly tcp?: readonly (readonly [host: string, port: number])[];
  readonly trace?: readonly number[];
  readonly files_only?: boolean;
}

type Outcomes = Readonly<Record<string, string>>;
const probe = join(import.meta.dirname, 'jail-probe.py');

export async function probeAsRoot(attempts: Attempts): Promise<Outcomes> {
  return JSON.parse(
    await runProgram('/usr/bin/python3', ['-c', await readFile(probe, 'utf8'), JSON.stringify(attempts)]),
  ) as Outcomes;
}

export async function probeAsVmm(vmm: ProcessIdentity, attempts: Attempts): Promise<Outcomes> {
  const status = await readFile(`/proc/${vmm.pid}/status`, 'utf8');
  const uid = /^Uid:\s*(\d+)/m.exec(status)?.[1] ?? '';
  const without = ['--clear-groups', '--no-new-privs', '--bounding-set=-all', '--inh-caps=-all', '--ambient-caps=-all'];
  const said = await runProgram('nsenter', [
    ...['--target', String(vmm.pid), '--net', '--mount', '--wd=/'],
    ...['setpriv', `--reuid=${uid}`, `--regid=${uid}`, ...without],
    ...['/usr/bin/python3', '-c', await readFile(probe, 'utf8'), JSON.stringify(attempts)],
  ]);
  return JSON.parse(said) as Outcomes;
}

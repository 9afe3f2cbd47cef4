// What a guest's machine is made of, where a snapshot depends on it.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';

import type { Accelerator } from './qemu-args.ts';

// The CPU as a guest sees it: under KVM the host's own, under TCG all that QEMU can imitate.
export async function cpuModelOf(accelerator: Accelerator): Promise<string> {
  if (accelerator === 'tcg') return 'tcg max';
  const text = await readFile('/proc/cpuinfo', 'utf8');
  return `host ${/^model name\s*: (.+)$/m.exec(text)?.[1]?.trim() ?? 'unknown'}`;
}

export async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  return `sha256:${hash.update(await readFile(path)).digest('hex')}`;
}

import type { SandboxId } from '@wrenn/kit/ids';

import { requireRunning } from './lookup.ts';
import type { SandboxStore } from './ports.ts';
import type { Sandbox } from './sandbox.ts';

// With `ttlMs` it expires that long from now, sooner or later than before; without, it lives at least
// its own ttl from now.
export async function keepAlive(sandboxes: SandboxStore, id: SandboxId, ttlMs?: number): Promise<Sandbox> {
  for (;;) {
    const extended = await sandboxes.extend(id, ttlMs);
    if (extended) return extended;
    // Passes only if it began to run in between; then the second try takes.
    requireRunning(await sandboxes.find(id), id);
  }
}

import { WrennError } from '@wrenn/kit/errors';

import type { Bell, SandboxStore } from './ports.ts';
import type { Sandbox } from './sandbox.ts';

export interface Watching {
  readonly sandboxes: SandboxStore;
  readonly bell: Bell;
}

// Resolves once the sandbox is not in the state any more in which it was seen.
export async function untilChanged({ sandboxes, bell }: Watching, seen: Sandbox, signal: AbortSignal): Promise<void> {
  const subscription = bell.subscribe(seen.id);
  try {
    for (;;) {
      const now = await sandboxes.find(seen.id);
      if (now?.state !== seen.state) return;
      await subscription.rung(signal);
      if (signal.aborted) throw new WrennError('CANCELLED', `the caller left while ${seen.id} was ${seen.state}`);
    }
  } finally {
    subscription.close();
  }
}

// Finds a sandbox for a call that needs it running. One that is paused, and was made to, is resumed first:
// by the first who comes, and all others wait with it.
import type { CallDeadline } from '@wrenn/kit/deadlines';
import { hasReason } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';

import { requireFound, requireRunning } from './lookup.ts';
import type { Bell, SandboxStore } from './ports.ts';
import type { ResumeSandbox } from './resume-sandbox.ts';
import type { Sandbox } from './sandbox.ts';
import { untilChanged } from './until-changed.ts';

export interface WakeSandboxParts {
  readonly sandboxes: SandboxStore;
  readonly bell: Bell;
  readonly resume: ResumeSandbox;
}

export class WakeSandbox {
  readonly #parts: WakeSandboxParts;

  constructor(parts: WakeSandboxParts) {
    this.#parts = parts;
  }

  // `onWaking` is called once it is clear that it takes longer than looking it up.
  async run(id: SandboxId, caller: CallDeadline, onWaking: () => void): Promise<Sandbox> {
    const { sandboxes, resume } = this.#parts;
    for (;;) {
      const seen = requireFound(await sandboxes.find(id), id);
      const canWake = seen.autoResume && ['pausing', 'paused', 'resuming'].includes(seen.state);
      if (!canWake) return requireRunning(seen, id);
      onWaking();
      if (seen.state === 'pausing') await untilChanged(this.#parts, seen, caller.signal);
      else {
        try {
          await resume.run(id, { reason: 'AUTO_RESUMED', ttlMs: undefined }, caller);
        } catch (error) {
          // It was paused again in between.
          if (!hasReason(error, 'STATE_CONFLICT') || caller.signal.aborted) throw error;
        }
      }
    }
  }
}

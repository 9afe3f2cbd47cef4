// Destroys sandboxes whose time is up, or pauses those that want it. Nothing happens if a ping came in
// between, or if another scheduler was faster.
import type { SandboxId } from '@wrenn/kit/ids';
import type { Causes } from '@wrenn/kit/telemetry/causes';
import { inOwnTrace } from '@wrenn/kit/telemetry/span';

import type { DestroySandbox } from './destroy-sandbox.ts';
import type { PauseSandbox } from './pause-sandbox.ts';
import type { SandboxStore } from './ports.ts';
import type { Sandbox } from './sandbox.ts';

const perTick = 100;
// A guest that cannot be paused now is not asked every second.
const retryMs = 10_000;

export class Reaper {
  readonly #sandboxes: SandboxStore;
  readonly #destroy: DestroySandbox;
  readonly #pause: PauseSandbox;
  readonly #causes: Causes;
  readonly #notBeforeMs = new Map<SandboxId, number>();

  constructor(sandboxes: SandboxStore, destroy: DestroySandbox, pause: PauseSandbox, causes: Causes) {
    this.#sandboxes = sandboxes;
    this.#destroy = destroy;
    this.#pause = pause;
    this.#causes = causes;
  }

  async tick(): Promise<void> {
    const nowMs = performance.now();
    for (const [id, atMs] of this.#notBeforeMs) if (atMs <= nowMs) this.#notBeforeMs.delete(id);
    for (const expired of await this.#sandboxes.expired(perTick, [...this.#notBeforeMs.keys()])) {
      if (expired.onTimeout === 'pause') {
        this.#pauseInBackground(expired);
        continue;
      }
      await this.#traced(expired, async () => {
        const claimed = await this.#destroy.claim(expired, 'TTL_EXPIRED');
        // Not awaited: one slow host must not keep the others' sandboxes alive. It logs its own failure.
        if (claimed) void this.#destroy.release(claimed);
      });
    }
  }

  #traced(expired: Sandbox, work: () => Promise<void>): Promise<void> {
    return inOwnTrace('expire', { 'wrenn.sandbox.id': expired.id }, [this.#causes.of(expired.id)], work);
  }

  #pauseInBackground(expired: Sandbox): void {
    // It logs its own failure, and is tried again.
    this.#traced(expired, () => this.#pause.expire(expired)).catch(() =>
      this.#notBeforeMs.set(expired.id, performance.now() + retryMs),
    );
  }
}

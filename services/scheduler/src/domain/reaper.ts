// Destroys sandboxes whose time is up. The claim fails if a ping came in between, or if another
// scheduler was faster.
import type { DestroySandbox } from './destroy-sandbox.ts';
import type { SandboxStore } from './ports.ts';

const perTick = 100;

export class Reaper {
  readonly #sandboxes: SandboxStore;
  readonly #destroy: DestroySandbox;

  constructor(sandboxes: SandboxStore, destroy: DestroySandbox) {
    this.#sandboxes = sandboxes;
    this.#destroy = destroy;
  }

  async tick(): Promise<void> {
    for (const expired of await this.#sandboxes.expired(perTick)) {
      const claimed = await this.#destroy.claim(expired, 'TTL_EXPIRED');
      // Not awaited: one slow host must not keep the others' sandboxes alive. It logs its own failure.
      if (claimed) void this.#destroy.release(claimed);
    }
  }
}

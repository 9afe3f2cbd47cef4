// Which sandboxes this process is creating or destroying right now: one operation at a time for each.
// What is in progress in the database but not here is a leftover of another life.
import type { SandboxId } from '@wrenn/kit/ids';

export interface Operation {
  readonly signal: AbortSignal;
  end(): void;
}

interface Entry {
  readonly abort: AbortController;
  readonly done: Promise<void>;
}

export class Operations {
  readonly #entries = new Map<SandboxId, Entry>();

  begin(id: SandboxId): Operation {
    if (this.#entries.has(id)) throw new Error(`${id} is busy`);
    const abort = new AbortController();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#entries.set(id, { abort, done: promise });
    return {
      signal: abort.signal,
      end: () => {
        this.#entries.delete(id);
        resolve();
      },
    };
  }

  owns(id: SandboxId): boolean {
    return this.#entries.has(id);
  }

  // Asks the operation in progress to give up and waits until it has undone its work.
  async interrupt(id: SandboxId): Promise<void> {
    const entry = this.#entries.get(id);
    entry?.abort.abort();
    await entry?.done;
  }

  // Waits for those in progress.
  async close(): Promise<void> {
    await Promise.all([...this.#entries.values()].map(({ done }) => done));
  }
}

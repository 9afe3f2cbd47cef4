// Which sandboxes this process is changing right now: one operation at a time for each. What is in progress
// in the database but not here is a leftover of another life.
import { WrennError } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';
import { inSpan } from '@wrenn/kit/telemetry/span';

import { whileCalled } from './while-called.ts';

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
    const operation = this.tryBegin(id);
    if (!operation) throw new Error(`${id} is busy`);
    return operation;
  }

  // Undefined while another one is in progress.
  tryBegin(id: SandboxId): Operation | undefined {
    if (this.#entries.has(id)) return undefined;
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

  // Begins once those before it have ended.
  async turn(id: SandboxId, caller: AbortSignal): Promise<Operation> {
    for (;;) {
      const operation = this.tryBegin(id);
      if (operation) return operation;
      const { done } = this.#entries.get(id) as Entry;
      await inSpan('turn', {}, () => whileCalled(done, caller, `the caller left while ${id} was busy`));
    }
  }

  // Begins in place of the operation in progress, which is asked to give up and has undone its work then.
  async takeOver(id: SandboxId): Promise<Operation> {
    for (;;) {
      const operation = this.tryBegin(id);
      if (operation) return operation;
      const entry = this.#entries.get(id) as Entry;
      entry.abort.abort(new WrennError('STATE_CONFLICT', `${id} is being destroyed`));
      await inSpan('turn', {}, () => entry.done);
    }
  }

  owns(id: SandboxId): boolean {
    return this.#entries.has(id);
  }

  // Waits for those in progress.
  async close(): Promise<void> {
    await Promise.all([...this.#entries.values()].map(({ done }) => done));
  }
}

// One operation at a time for each owner, in the order of arrival; different owners do not wait for one
// another.
import type { SandboxId } from '@wrenn/kit/ids';

export class OwnerQueue {
  readonly #tails = new Map<SandboxId, Promise<unknown>>();

  async run<T>(owner: SandboxId, operation: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(owner) ?? Promise.resolve();
    const outcome = before.then(operation, operation);
    this.#tails.set(owner, outcome);
    try {
      return await outcome;
    } finally {
      if (this.#tails.get(owner) === outcome) this.#tails.delete(owner);
    }
  }
}

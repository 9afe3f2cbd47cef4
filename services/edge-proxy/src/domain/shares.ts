// How much of the edge is in use, in all and by each: what one sandbox is sent cannot shut out the others.
import { Refusal } from './refusal.ts';

export interface ShareLimits {
  readonly perSandbox: number;
  readonly total: number;
}

export class Shares<Id extends string> {
  readonly #limits: ShareLimits;
  readonly #counts = new Map<Id, number>();
  #total = 0;

  constructor(limits: ShareLimits) {
    this.#limits = limits;
  }

  get total(): number {
    return this.#total;
  }

  // Takes a share, or throws a Refusal. It is given back by what is returned, once.
  enter(id: Id): () => void {
    const count = this.#counts.get(id) ?? 0;
    if (count >= this.#limits.perSandbox)
      throw new Refusal('SANDBOX_BUSY', 'too many requests to this sandbox at once');
    if (this.#total >= this.#limits.total) throw new Refusal('EDGE_BUSY', 'too many requests at once');
    this.#counts.set(id, count + 1);
    this.#total++;
    return () => this.#leave(id);
  }

  #leave(id: Id): void {
    this.#total--;
    const left = this.#counts.get(id)! - 1;
    if (left === 0) this.#counts.delete(id);
    else this.#counts.set(id, left);
  }
}

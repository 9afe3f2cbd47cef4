// Where sandboxes were last found: bounded in number, and in the time it is believed without asking.
export interface RouteCacheOptions {
  readonly capacity: number;
  readonly freshMs: number;
  readonly nowMs: () => number; // Monotonic.
}

export interface Route {
  readonly address: string;
  readonly isFresh: boolean;
}

interface Entry {
  readonly address: string;
  readonly staleAtMs: number;
}

export class RouteCache {
  readonly #options: RouteCacheOptions;
  // In order of use, the longest unused first: a Map keeps the order of insertion.
  readonly #entries = new Map<string, Entry>();

  constructor(options: RouteCacheOptions) {
    this.#options = options;
  }

  get(sandboxId: string): Route | undefined {
    const entry = this.#entries.get(sandboxId);
    if (!entry) return undefined;
    this.#entries.delete(sandboxId);
    this.#entries.set(sandboxId, entry);
    return { address: entry.address, isFresh: this.#options.nowMs() < entry.staleAtMs };
  }

  set(sandboxId: string, address: string): void {
    this.#entries.delete(sandboxId);
    this.#entries.set(sandboxId, { address, staleAtMs: this.#options.nowMs() + this.#options.freshMs });
    if (this.#entries.size <= this.#options.capacity) return;
    const [longestUnused] = this.#entries.keys();
    if (longestUnused !== undefined) this.#entries.delete(longestUnused);
  }

  // Forgets a route, unless a newer one has taken its place.
  delete(sandboxId: string, address: string): void {
    if (this.#entries.get(sandboxId)?.address === address) this.#entries.delete(sandboxId);
  }

  get size(): number {
    return this.#entries.size;
  }
}

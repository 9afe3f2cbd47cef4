// Where sandboxes were last found: bounded in number, and in the time it is believed without asking.
import { type HostAddress, isSameHost } from './peers.ts';

export interface RouteCacheOptions {
  readonly capacity: number;
  readonly freshMs: number;
  readonly nowMs: () => number; // Monotonic.
}

export interface Route {
  readonly host: HostAddress;
  readonly isFresh: boolean;
}

interface Entry {
  readonly host: HostAddress;
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
    return { host: entry.host, isFresh: this.#options.nowMs() < entry.staleAtMs };
  }

  set(sandboxId: string, host: HostAddress): void {
    this.#entries.delete(sandboxId);
    this.#entries.set(sandboxId, { host, staleAtMs: this.#options.nowMs() + this.#options.freshMs });
    if (this.#entries.size <= this.#options.capacity) return;
    const [longestUnused] = this.#entries.keys();
    if (longestUnused !== undefined) this.#entries.delete(longestUnused);
  }

  // Forgets a route, unless a newer one has taken its place.
  delete(sandboxId: string, host: HostAddress): void {
    const entry = this.#entries.get(sandboxId);
    if (entry && isSameHost(entry.host, host)) this.#entries.delete(sandboxId);
  }

  get size(): number {
    return this.#entries.size;
  }
}

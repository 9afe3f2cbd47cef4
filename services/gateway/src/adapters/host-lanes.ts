import type { HostPeers, PeerUse } from '../domain/peers.ts';
import { LanePeer } from './lane-peer.ts';

interface Entry {
  readonly peer: LanePeer;
  callCount: number;
  idle: NodeJS.Timeout | undefined;
}

// One interactive lane per host, shared by all calls to it and closed once it has been unused for a while.
export class HostLanes implements HostPeers {
  readonly #idleMs: number;
  readonly #entries = new Map<string, Entry>();

  constructor(idleMs: number) {
    this.#idleMs = idleMs;
  }

  use(address: string): PeerUse {
    const entry = this.#entries.get(address) ?? {
      peer: new LanePeer(address, 'vm-runtime', 'interactive'),
      callCount: 0,
      idle: undefined,
    };
    this.#entries.set(address, entry);
    clearTimeout(entry.idle);
    entry.callCount += 1;
    return { peer: entry.peer, [Symbol.dispose]: () => this.#release(address, entry) };
  }

  get size(): number {
    return this.#entries.size;
  }

  close(): void {
    for (const { peer, idle } of this.#entries.values()) {
      clearTimeout(idle);
      peer.close();
    }
    this.#entries.clear();
  }

  #release(address: string, entry: Entry): void {
    entry.callCount -= 1;
    if (entry.callCount > 0 || this.#entries.get(address) !== entry) return;
    entry.idle = setTimeout(() => {
      this.#entries.delete(address);
      entry.peer.close();
    }, this.#idleMs);
    entry.idle.unref();
  }
}

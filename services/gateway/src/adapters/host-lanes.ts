import { WrennError } from '@wrenn/kit/errors';

import type { HostAddress, HostPeers, PeerUse, Traffic } from '../domain/peers.ts';
import { LanePeer } from './lane-peer.ts';

interface Entry {
  readonly peer: LanePeer;
  callCount: number;
  idle: NodeJS.Timeout | undefined;
}

// One lane per host and kind of traffic, shared by all calls to it and closed once it has been unused for a while.
export class HostLanes implements HostPeers {
  readonly #idleMs: number;
  readonly #entries = new Map<string, Entry>();

  constructor(idleMs: number) {
    this.#idleMs = idleMs;
  }

  // Errors: SERVICE_UNAVAILABLE where the host does not serve this traffic.
  use(host: HostAddress, traffic: Traffic): PeerUse {
    const address = host[traffic];
    if (address === '') throw new WrennError('SERVICE_UNAVAILABLE', `the sandbox's host serves no ${traffic} traffic`);
    const key = `${traffic} ${address}`;
    const entry = this.#entries.get(key) ?? {
      peer: new LanePeer(address, 'vm-runtime', traffic),
      callCount: 0,
      idle: undefined,
    };
    this.#entries.set(key, entry);
    clearTimeout(entry.idle);
    entry.callCount += 1;
    return { peer: entry.peer, [Symbol.dispose]: () => this.#release(key, entry) };
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

  #release(key: string, entry: Entry): void {
    entry.callCount -= 1;
    if (entry.callCount > 0 || this.#entries.get(key) !== entry) return;
    entry.idle = setTimeout(() => {
      this.#entries.delete(key);
      entry.peer.close();
    }, this.#idleMs);
    entry.idle.unref();
  }
}

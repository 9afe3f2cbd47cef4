// Connections to guests, kept for the next request to the same place. A place is sandbox, port, host and address,
// so what was kept for a sandbox is never used once it has moved; when it changes its state all is closed.
import type { Socket } from 'node:net';

import type { SandboxId } from '@wrenn/kit/ids';

import type { Guests, TakeOptions } from '../exchange.ts';
import { GuestConnection, type GuestConnectionEvents } from '../guest-connection.ts';
import type { Reached, Whereabouts } from './guest-dialer.ts';
import type { SandboxListener } from './sandbox-follower.ts';

// Connects to a port of a sandbox, or throws a Refusal.
export type Dial = (id: SandboxId, port: number, signal: AbortSignal) => Promise<Reached>;

export interface GuestConnectionsOptions {
  readonly resolve: (id: SandboxId) => Promise<Whereabouts>;
  readonly dial: Dial;
  readonly maxIdlePerPlace?: number;
  readonly maxIdle?: number;
  readonly idleMs?: number;
}

// What is open to one sandbox, and how often it has changed since the first of it was dialled.
interface Sandbox {
  readonly connections: Set<GuestConnection>;
  dialling: number;
  changes: number;
}

export class GuestConnections implements Guests, SandboxListener {
  readonly #options: GuestConnectionsOptions;
  readonly #maxIdlePerPlace: number;
  readonly #maxIdle: number;
  readonly #idleMs: number;
  readonly #sandboxes = new Map<SandboxId, Sandbox>();
  readonly #idle = new Map<string, GuestConnection[]>(); // By place, the one used last at the end.
  readonly #byAge = new Set<GuestConnection>(); // All idle ones, the oldest first.
  readonly #sweep: NodeJS.Timeout;
  #evictedCount = 0;

  constructor(options: GuestConnectionsOptions) {
    this.#options = options;
    this.#maxIdlePerPlace = options.maxIdlePerPlace ?? 20;
    this.#maxIdle = options.maxIdle ?? 100;
    this.#idleMs = options.idleMs ?? 120_000;
    this.#sweep = setInterval(() => this.#closeOld(), Math.min(this.#idleMs, 1000));
    this.#sweep.unref();
  }

  get idleCount(): number {
    return this.#byAge.size;
  }

  // Idle ones that were closed because their sandbox had changed.
  get evictedCount(): number {
    return this.#evictedCount;
  }

  async take(id: SandboxId, port: number, { mayReuse, signal }: TakeOptions): Promise<GuestConnection> {
    if (mayReuse) {
      const kept = this.#takeIdle(placeOf(id, port, await this.#options.resolve(id)));
      if (kept) return kept;
    }
    const sandbox = this.#sandboxes.get(id) ?? { connections: new Set(), dialling: 0, changes: 0 };
    this.#sandboxes.set(id, sandbox);
    sandbox.dialling++;
    const ended = signal();
    try {
      for (;;) {
        const { changes } = sandbox;
        const { socket, at } = await this.#options.dial(id, port, ended);
        if (changes === sandbox.changes) return this.#opened(id, placeOf(id, port, at), sandbox, socket);
        // It has moved meanwhile, and the address may be another's by now.
        socket.destroy();
      }
    } finally {
      sandbox.dialling--;
      this.#forgetIfUnused(id, sandbox);
    }
  }

  // The sandbox changed its state. One that runs on may finish what it is at; of one that is gone nothing
  // more will come, not even an end.
  forget(id: SandboxId, isGone: boolean): void {
    const sandbox = this.#sandboxes.get(id);
    if (!sandbox) return;
    sandbox.changes++;
    const reason = new Error('the sandbox is no longer there');
    for (const connection of sandbox.connections) {
      if (connection.isIdle) this.#evictedCount++;
      if (isGone || connection.isIdle) connection.cut(reason);
    }
  }

  setFollowing(isFollowing: boolean): void {
    if (!isFollowing) for (const connection of this.#byAge) connection.socket.destroy();
  }

  close(): void {
    clearInterval(this.#sweep);
    for (const { connections } of this.#sandboxes.values()) {
      for (const connection of connections) connection.socket.destroy();
    }
  }

  #opened(id: SandboxId, place: string, sandbox: Sandbox, socket: Socket): GuestConnection {
    const { changes } = sandbox;
    const events: GuestConnectionEvents = {
      freed: (connection) => {
        if (changes === sandbox.changes) this.#keep(connection);
        else connection.socket.destroy();
      },
      closed: (connection) => {
        this.#remove(connection);
        sandbox.connections.delete(connection);
        this.#forgetIfUnused(id, sandbox);
      },
    };
    const connection = new GuestConnection(socket, place, events);
    sandbox.connections.add(connection);
    return connection;
  }

  #keep(connection: GuestConnection): void {
    const kept = this.#idle.get(connection.place) ?? [];
    if (kept.length >= this.#maxIdlePerPlace) {
      connection.socket.destroy();
      return;
    }
    if (kept.length === 0) this.#idle.set(connection.place, kept);
    kept.push(connection);
    connection.idleSinceMs = performance.now();
    this.#byAge.add(connection);
    for (const oldest of this.#byAge) {
      if (this.#byAge.size <= this.#maxIdle) return;
      this.#remove(oldest);
      oldest.socket.destroy();
    }
  }

  #takeIdle(place: string): GuestConnection | undefined {
    const kept = this.#idle.get(place);
    for (let connection = kept?.at(-1); connection; connection = kept?.at(-1)) {
      this.#remove(connection);
      if (!connection.socket.destroyed) return connection;
    }
    return undefined;
  }

  #remove(connection: GuestConnection): void {
    if (!this.#byAge.delete(connection)) return;
    const kept = this.#idle.get(connection.place)!;
    if (kept.at(-1) === connection) kept.pop();
    else kept.splice(kept.lastIndexOf(connection), 1);
    if (kept.length === 0) this.#idle.delete(connection.place);
  }

  #closeOld(): void {
    const untilMs = performance.now() - this.#idleMs;
    for (const connection of this.#byAge) {
      if (connection.idleSinceMs > untilMs) return;
      connection.socket.destroy();
    }
  }

  #forgetIfUnused(id: SandboxId, sandbox: Sandbox): void {
    if (sandbox.dialling === 0 && sandbox.connections.size === 0) this.#sandboxes.delete(id);
  }
}

function placeOf(id: SandboxId, port: number, { hostId, address }: Whereabouts): string {
  return `${id}/${port}/${hostId}/${address}`;
}

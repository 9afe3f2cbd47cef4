// Connections to guests, kept for the next request to the same port of the same sandbox. What leads to where it was
// before is never used again; when it changes its state all is closed.
import type { Socket } from 'node:net';

import type { SandboxId } from '@wrenn/kit/ids';

import type { Guests, TakeOptions } from '../exchange.ts';
import { GuestConnection, type GuestConnectionEvents, type GuestEnd } from '../guest-connection.ts';
import type { Reached, Whereabouts } from './guest-dialer.ts';
import type { SandboxListener } from './sandbox-follower.ts';

// Connects to a port of a sandbox, or throws a Refusal.
export type Dial = (id: SandboxId, port: number, signal: AbortSignal) => Promise<Reached>;

export interface GuestConnectionsOptions {
  readonly resolve: (id: SandboxId) => Promise<Whereabouts>;
  readonly dial: Dial;
  readonly maxIdlePerPort?: number;
  readonly maxIdle?: number;
  readonly idleMs?: number;
}

// What is open to one sandbox, and how often it has changed since the first of it was dialled.
interface Sandbox {
  readonly connections: Set<GuestConnection>;
  readonly idle: Map<number, GuestConnection[]>; // By port, the one used last at the end.
  dialling: number;
  changes: number;
}

export class GuestConnections implements Guests, SandboxListener {
  readonly #options: GuestConnectionsOptions;
  readonly #maxIdlePerPort: number;
  readonly #maxIdle: number;
  readonly #idleMs: number;
  readonly #sandboxes = new Map<SandboxId, Sandbox>();
  readonly #byAge = new Map<GuestConnection, Sandbox>(); // All idle ones, the oldest first.
  readonly #sweep: NodeJS.Timeout;
  #evictedCount = 0;

  constructor(options: GuestConnectionsOptions) {
    this.#options = options;
    this.#maxIdlePerPort = options.maxIdlePerPort ?? 20;
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
      const at = await this.#options.resolve(id);
      const kept = this.#takeIdle(this.#sandboxes.get(id)?.idle.get(port), at);
      if (kept) return kept;
    }
    const sandbox = this.#sandboxes.get(id) ?? { connections: new Set(), idle: new Map(), dialling: 0, changes: 0 };
    this.#sandboxes.set(id, sandbox);
    const ended = signal();
    sandbox.dialling++;
    try {
      for (;;) {
        const { changes } = sandbox;
        const { socket, at } = await this.#options.dial(id, port, ended);
        if (changes === sandbox.changes) return this.#opened(id, { ...at, port }, sandbox, socket);
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
    if (!isFollowing) for (const connection of this.#byAge.keys()) connection.socket.destroy();
  }

  close(): void {
    clearInterval(this.#sweep);
    for (const { connections } of this.#sandboxes.values()) {
      for (const connection of connections) connection.socket.destroy();
    }
  }

  #opened(id: SandboxId, end: GuestEnd, sandbox: Sandbox, socket: Socket): GuestConnection {
    const { changes } = sandbox;
    const events: GuestConnectionEvents = {
      freed: (connection) => {
        if (changes === sandbox.changes) this.#keep(connection, sandbox);
        else connection.socket.destroy();
      },
      closed: (connection) => {
        this.#remove(connection);
        sandbox.connections.delete(connection);
        this.#forgetIfUnused(id, sandbox);
      },
    };
    const connection = new GuestConnection(socket, end, events);
    sandbox.connections.add(connection);
    return connection;
  }

  #keep(connection: GuestConnection, sandbox: Sandbox): void {
    const { port } = connection.end;
    const kept = sandbox.idle.get(port) ?? [];
    if (kept.length >= this.#maxIdlePerPort) {
      connection.socket.destroy();
      return;
    }
    if (kept.length === 0) sandbox.idle.set(port, kept);
    kept.push(connection);
    connection.idleSinceMs = performance.now();
    this.#byAge.set(connection, sandbox);
    for (const oldest of this.#byAge.keys()) {
      if (this.#byAge.size <= this.#maxIdle) return;
      this.#remove(oldest);
      oldest.socket.destroy();
    }
  }

  #takeIdle(kept: GuestConnection[] | undefined, at: Whereabouts): GuestConnection | undefined {
    for (let connection = kept?.at(-1); connection; connection = kept?.at(-1)) {
      this.#remove(connection);
      const { end, socket } = connection;
      if (end.address === at.address && end.hostId === at.hostId && !socket.destroyed) return connection;
      socket.destroy();
    }
    return undefined;
  }

  #remove(connection: GuestConnection): void {
    const sandbox = this.#byAge.get(connection);
    if (!sandbox) return;
    this.#byAge.delete(connection);
    const { port } = connection.end;
    const kept = sandbox.idle.get(port)!;
    if (kept.at(-1) === connection) kept.pop();
    else kept.splice(kept.lastIndexOf(connection), 1);
    if (kept.length === 0) sandbox.idle.delete(port);
  }

  #closeOld(): void {
    const untilMs = performance.now() - this.#idleMs;
    for (const connection of this.#byAge.keys()) {
      if (connection.idleSinceMs > untilMs) return;
      connection.socket.destroy();
    }
  }

  #forgetIfUnused(id: SandboxId, sandbox: Sandbox): void {
    if (sandbox.dialling === 0 && sandbox.connections.size === 0) this.#sandboxes.delete(id);
  }
}

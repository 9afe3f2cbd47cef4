// The connections of this process to one guest. A guest that is gone acknowledges no end of a connection,
// and grpc-js offers no way to cut one: without this each guest's would stay open for a quarter of an hour.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';

const created = 'net.client.socket';
// For what is still being sent to a guest that lives.
const graceMs = 500;

export class GuestSockets {
  readonly #open = new Set<Socket>();
  readonly #onCreated: (message: unknown) => void;

  constructor(host: string, port: number) {
    this.#onCreated = (message) => {
      const { socket } = message as { readonly socket: Socket };
      socket.once('connectionAttempt', (ip: string, attemptedPort: number) => {
        if (ip !== host || attemptedPort !== port) return;
        this.#open.add(socket);
        socket.once('close', () => this.#open.delete(socket));
      });
    };
    subscribe(created, this.#onCreated);
  }

  get count(): number {
    return this.#open.size;
  }

  // Cuts what is open now and has not ended by itself in a moment; what is opened later is another guest's.
  close(): void {
    unsubscribe(created, this.#onCreated);
    if (this.#open.size === 0) return;
    const cut = setTimeout(() => {
      for (const socket of this.#open) socket.destroy();
    }, graceMs);
    cut.unref();
  }
}

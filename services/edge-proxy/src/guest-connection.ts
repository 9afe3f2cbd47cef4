// One connection to a port of a guest, which serves exchanges one after another. Between two of them the
// guest has nothing to say: whatever it does then ends the connection.
import type { Socket } from 'node:net';

// The exchange that a connection serves now.
export interface GuestUser {
  guestSent(bytes: Buffer): void;
  guestEnded(): void; // It will send no more.
  guestBroke(error: unknown): void;
  guestDrained(): void;
}

export interface GuestConnectionEvents {
  freed(connection: GuestConnection): void; // It may serve another exchange.
  closed(connection: GuestConnection): void;
}

// Where a connection leads, on which host a guest is known by its address.
export interface GuestEnd {
  readonly hostId: string;
  readonly address: string;
  readonly port: number;
}

export class GuestConnection {
  readonly socket: Socket;
  readonly end: GuestEnd;
  readonly #events: GuestConnectionEvents;
  #user: GuestUser | undefined;
  #error: unknown;
  uses = 0;
  idleSinceMs = 0;

  constructor(socket: Socket, end: GuestEnd, events: GuestConnectionEvents) {
    this.socket = socket;
    this.end = end;
    this.#events = events;
    socket.on('data', (bytes: Buffer) => (this.#user ? this.#user.guestSent(bytes) : socket.destroy()));
    socket.on('end', () => (this.#user ? this.#user.guestEnded() : socket.destroy()));
    socket.on('drain', () => this.#user?.guestDrained());
    socket.on('error', (error) => (this.#error = error));
    socket.on('close', () => {
      events.closed(this);
      this.#user?.guestBroke(this.#error);
    });
    socket.resume();
  }

  get isIdle(): boolean {
    return this.#user === undefined;
  }

  serve(user: GuestUser): void {
    this.#user = user;
    this.uses++;
  }

  // The exchange is over; another may follow if nothing about it was odd.
  release(isReusable: boolean): void {
    this.#user = undefined;
    if (!isReusable || this.socket.destroyed) {
      this.socket.destroy();
      return;
    }
    this.socket.resume();
    this.#events.freed(this);
  }

  // Whoever it serves is told why.
  cut(reason: Error): void {
    this.socket.destroy(reason);
  }
}

// Connects to ports of guests, and to nothing else: an address outside the range of guests is never
// dialled, whoever says it is one. Guests of other hosts are reached through the edges there.
import { BlockList, type Socket, connect, isIPv4 } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import type { SandboxId } from '@wrenn/kit/ids';

import { Refusal } from '../domain/refusal.ts';
import type { HopRequest } from '../domain/hop-words.ts';
import type { HopDialer } from './hop-dialer.ts';

export interface Whereabouts {
  readonly hostId: string;
  readonly address: string; // As that host, and only it, reaches the guest.
}

// Where guests are, and that it turned out not to be so.
export interface Addresses {
  resolve(id: SandboxId): Promise<Whereabouts>;
  forget(id: SandboxId): void;
}

export interface Reached {
  readonly socket: Socket;
  readonly at: Whereabouts;
}

// On which hosts guests are dialled. An address is one guest's on each host: dialled here, one of another host would be
// whoever has it here.
export interface Reach {
  isHere(hostId: string): boolean;
  readonly hops?: HopDialer | undefined;
}

const oneHost: Reach = { isHere: () => true };

export interface AddressRange {
  readonly network: string;
  readonly prefixLength: number;
}

// Every guest of a host, as the host reaches it.
export const guestRange: AddressRange = { network: '10.11.0.0', prefixLength: 16 };

const attempts = 3;
const connectTimeoutMs = 10_000;

export class GuestDialer {
  readonly #addresses: Addresses;
  readonly #reach: Reach;
  readonly #allowed = new BlockList();

  constructor(addresses: Addresses, { network, prefixLength }: AddressRange, reach: Reach = oneHost) {
    this.#addresses = addresses;
    this.#reach = reach;
    this.#allowed.addSubnet(network, prefixLength, 'ipv4');
  }

  // A server in a guest may still be starting, and a guest may have moved: a refused connection is tried
  // again after 100 ms and 200 ms, each time asking anew where the guest is.
  async dial(id: SandboxId, port: number, signal: AbortSignal): Promise<Reached> {
    for (let attempt = 1; ; attempt++) {
      const at = await this.#addresses.resolve(id);
      const { hops } = this.#reach;
      if (hops?.leadsTo(at.hostId)) return this.#throughHop(hops, at, { id, port }, signal);
      if (!this.#reach.isHere(at.hostId)) {
        throw new Refusal('SERVICE_UNAVAILABLE', 'the host of the sandbox cannot be reached from here');
      }
      const { address } = at;
      if (!isIPv4(address) || !this.#allowed.check(address, 'ipv4')) {
        throw new Refusal('INTERNAL', 'the sandbox has no proper address', { cause: new Error(`refused ${address}`) });
      }
      try {
        return { socket: await connected(address, port, signal), at };
      } catch (error) {
        if (signal.aborted) throw error;
        this.#addresses.forget(id);
        // One that was paused meanwhile is called where it is now.
        if (error instanceof Refusal && (await this.#addresses.resolve(id)).address === address) throw error;
        if (attempt === attempts) {
          throw new Refusal('NOTHING_LISTENS', `nothing listens on port ${port} of the sandbox`, { cause: error });
        }
        await sleep(100 * attempt, undefined, { signal });
      }
    }
  }

  // The other edge tries more than once by itself.
  async #throughHop(hops: HopDialer, at: Whereabouts, request: HopRequest, signal: AbortSignal): Promise<Reached> {
    try {
      return { socket: await hops.dial(at.hostId, request, signal), at };
    } catch (error) {
      this.#addresses.forget(request.id);
      throw error;
    }
  }
}

// What guests send is read here and copied: small answers, the most of all, into memory that Node shares out, instead of
// 64 KiB that are allocated for each. One for all connections: it is copied from before anything else is read.
const readBuffer = Buffer.allocUnsafeSlow(256 * 1024);

function connected(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const callback = (count: number) => {
      const bytes = Buffer.allocUnsafe(count);
      readBuffer.copy(bytes, 0, 0, count);
      socket.emit('data', bytes);
      return true; // Goes on until it is paused.
    };
    const onread = { buffer: readBuffer, callback };
    const socket = connect({ host, port, noDelay: true, keepAlive: true, allowHalfOpen: true, onread });
    const fail = (error: unknown) => {
      socket.destroy();
      settle();
      reject(error);
    };
    const abort = () => fail(signal.reason);
    const timer = setTimeout(
      () => fail(new Refusal('GUEST_TIMEOUT', `port ${port} of the sandbox did not answer`)),
      connectTimeoutMs,
    );
    const settle = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      socket.off('error', fail);
    };
    signal.addEventListener('abort', abort, { once: true });
    socket.once('error', fail);
    socket.once('connect', () => {
      settle();
      resolve(socket);
    });
  });
}

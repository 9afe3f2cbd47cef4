// One connection that listens for commits of events and wakes who waits for them. While it is down
// nobody is woken; when it is back everybody is, because anything may have been missed.
import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import { Client } from 'pg';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Bell, Subscription } from '../domain/ports.ts';
import { eventChannel, roomChannel } from './postgres-events.ts';

const connectLimitMs = 900;
const reconnectMs = 200;
const probeEveryMs = 5000;

interface Listener {
  readonly topic: SandboxId | 'room' | undefined;
  readonly ring: () => void;
}

export class CommitBell implements Bell {
  readonly #url: string;
  readonly #log: Log;
  readonly #listeners = new Set<Listener>();
  readonly #closing = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(url: string, log: Log) {
    this.#url = url;
    this.#log = log;
  }

  open(): void {
    this.#loop = this.#listenForEver();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
  }

  subscribe(topic: SandboxId | 'room' | undefined): Subscription {
    let rung = Promise.withResolvers<void>();
    const listener = { topic, ring: () => rung.resolve() };
    this.#listeners.add(listener);
    return {
      async rung(signal) {
        if (signal.aborted) return;
        const stop = () => rung.resolve();
        signal.addEventListener('abort', stop, { once: true });
        await rung.promise;
        signal.removeEventListener('abort', stop);
        rung = Promise.withResolvers();
      },
      close: () => void this.#listeners.delete(listener),
    };
  }

  async #listenForEver(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const failure = await this.#listenOnce(signal);
      if (signal.aborted) return;
      this.#log.warn({ err: failure }, 'not listening for events; trying again');
      await sleep(reconnectMs, undefined, { signal }).catch(() => 'closing');
    }
  }

  // Returns why it ended.
  async #listenOnce(signal: AbortSignal): Promise<unknown> {
    const client = new Client({
      connectionString: this.#url,
      connectionTimeoutMillis: connectLimitMs,
      query_timeout: connectLimitMs,
      keepAlive: true,
      application_name: 'wrenn-scheduler-events',
    });
    const { promise: ended, resolve: end } = Promise.withResolvers<unknown>();
    client.on('error', end);
    client.on('end', () => end(new Error('the connection ended')));
    client.on('notification', ({ channel, payload }) => this.#ring(channel === roomChannel ? 'room' : payload));
    const stop = () => end('closing');
    signal.addEventListener('abort', stop, { once: true });
    let probe: NodeJS.Timeout | undefined;
    try {
      await client.connect();
      await client.query(`listen ${eventChannel}; listen ${roomChannel}`);
      this.#ring(undefined);
      // Notices a connection that is dead without having been closed.
      probe = setInterval(() => void client.query('select 1').catch(end), probeEveryMs);
      return await ended;
    } catch (error) {
      return error;
    } finally {
      clearInterval(probe);
      signal.removeEventListener('abort', stop);
      // Not end(): that would wait for an answer of a server that may not give any.
      client.connection.stream.destroy();
    }
  }

  // Without a topic everybody's.
  #ring(topic: string | undefined): void {
    for (const listener of this.#listeners) {
      const isMeant = listener.topic === topic || (listener.topic === undefined && topic !== 'room');
      if (topic === undefined || isMeant) listener.ring();
    }
  }
}

// Keeps the embedded PostgreSQL running. Its address is the same after a restart, so services that use
// it reconnect by themselves.
import type { Log } from '@wrenn/kit/log';

import { type EmbeddedPostgres, startEmbeddedPostgres } from '../embedded-postgres.ts';
import { Backoff } from './backoff.ts';

export class Database {
  readonly #dataDir: string;
  readonly #log: Log;
  readonly #backoff = new Backoff();
  #server: EmbeddedPostgres | undefined;
  #restart: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isWanted = true;

  constructor(dataDir: string, log: Log) {
    this.#dataDir = dataDir;
    this.#log = log;
  }

  // Returns the URL to reach it by.
  async start(): Promise<string> {
    const server = await startEmbeddedPostgres({ dataDir: this.#dataDir, log: this.#log });
    this.#server = server;
    const startedAtMs = Date.now();
    void server.exited.then(() => this.#ended(Date.now() - startedAtMs)); // Never rejects.
    return server.url;
  }

  async close(): Promise<void> {
    this.#isWanted = false;
    clearTimeout(this.#timer);
    await this.#restart;
    await this.#server?.close();
  }

  #ended(livedMs: number): void {
    if (!this.#isWanted) return;
    const delayMs = this.#backoff.nextDelayMs(livedMs);
    this.#log.warn({ livedMs, delayMs }, 'PostgreSQL ended; restarting it');
    this.#timer = setTimeout(() => {
      this.#restart = this.start().then(
        () => undefined,
        (error: unknown) => {
          this.#log.error({ err: error }, 'PostgreSQL does not start');
          this.#ended(0);
        },
      );
    }, delayMs);
  }
}

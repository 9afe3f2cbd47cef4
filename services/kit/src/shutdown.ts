// What was opened last is closed first; each closer has a time limit, so that one cannot hang the end.
import { ConfigError } from './config.ts';
import type { Log } from './log.ts';
import { withSourcePositions } from './source-positions.ts';

type Closer = { readonly name: string; readonly close: () => Promise<void> | void };

export class Shutdown {
  readonly #closers: Closer[] = [];
  readonly #log: Log;
  readonly #limitMs: number;
  #closing: Promise<void> | undefined;

  constructor(log: Log, limitMs = 10_000) {
    this.#log = log;
    this.#limitMs = limitMs;
  }

  // Takes charge of closing a thing and returns it.
  own<T extends { close(): Promise<void> | void }>(name: string, thing: T): T {
    this.#closers.push({ name, close: () => thing.close() });
    return thing;
  }

  close(): Promise<void> {
    this.#closing ??= this.#closeAll();
    return this.#closing;
  }

  // `await using stop = new Shutdown(log)`: what was opened is closed also when the start fails half-way.
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // Resolves after SIGTERM or SIGINT, once everything is closed. A second signal does not hurry it.
  async onSignal(): Promise<void> {
    const signal = await new Promise<string>((resolve) => {
      for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => resolve(name));
    });
    this.#log.info({ signal }, 'stopping');
    await this.close();
    this.#log.info('stopped');
  }

  async #closeAll(): Promise<void> {
    for (const { name, close } of this.#closers.reverse()) {
      let timer: NodeJS.Timeout | undefined;
      const limit = new Promise<never>((_resolve, reject) => {
        timer = setTimeout(() => reject(new Error(`not closed within ${this.#limitMs} ms`)), this.#limitMs);
      });
      try {
        await Promise.race([close(), limit]);
      } catch (error) {
        this.#log.error({ err: error, part: name }, 'closing failed');
      } finally {
        clearTimeout(timer);
      }
    }
  }
}

// Runs a service's composition root and turns its end into an exit code: 0 after a clean stop, 78 for a
// bad configuration (sysexits' EX_CONFIG), 1 for anything else.
export async function runService(start: () => Promise<void>): Promise<void> {
  try {
    await start();
    process.exit(0);
  } catch (error) {
    const isConfig = error instanceof ConfigError;
    const told = isConfig
      ? `bad configuration:\n${error.message}`
      : withSourcePositions(String((error as Error)?.stack ?? error));
    process.stderr.write(`${told}\n`);
    process.exit(isConfig ? 78 : 1);
  }
}

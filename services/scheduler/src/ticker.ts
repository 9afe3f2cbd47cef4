// Does something again and again, one run at a time. A run that fails is tried again the next time; the
// log tells of the first failure of a row and of the recovery. Looking leaves no trace; what it does is in its own.
import type { Log } from '@wrenn/kit/log';
import { untraced } from '@wrenn/kit/telemetry/span';

export interface TickerOptions {
  readonly name: string;
  readonly everyMs: number;
  readonly work: () => Promise<void>;
  readonly log: Log;
}

export class Ticker {
  readonly #options: TickerOptions;
  readonly #stopped = Promise.withResolvers<void>();
  #isStopped = false;
  #isFailing = false;
  readonly #done: Promise<void>;

  constructor(options: TickerOptions) {
    this.#options = options;
    this.#done = this.#loop();
  }

  // Resolves once a run in progress has ended.
  async close(): Promise<void> {
    this.#isStopped = true;
    this.#stopped.resolve();
    await this.#done;
  }

  async #loop(): Promise<void> {
    while (!this.#isStopped) {
      await this.#tick();
      let timer: NodeJS.Timeout | undefined;
      const pause = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, this.#options.everyMs);
      });
      await Promise.race([pause, this.#stopped.promise]);
      clearTimeout(timer);
    }
  }

  async #tick(): Promise<void> {
    const { name, work, log } = this.#options;
    try {
      await untraced(work);
      if (this.#isFailing) log.info({ part: name }, 'works again');
      this.#isFailing = false;
    } catch (error) {
      if (!this.#isFailing) log.warn({ err: error, part: name }, 'failed; will be tried again');
      this.#isFailing = true;
    }
  }
}

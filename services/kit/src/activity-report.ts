// Tells somebody which sandboxes are in use, so that they live on: at once when the first is used, then in
// batches, as long as any of them is. It never delays a call, and a report that is lost is made up for by the next.
import type { Log } from './log.ts';
import { untraced } from './telemetry/span.ts';

export interface Activity {
  // In use until disposed of; with `progress`, only while that number changes.
  use(sandboxId: string, progress?: () => number): Disposable;
}

export interface ActivityReportOptions {
  readonly send: (sandboxIds: string[]) => Promise<unknown>;
  readonly log: Log;
  // Well below 1 s, which is the shortest time to live that a sandbox can have.
  readonly everyMs?: number;
}

interface Use {
  readonly sandboxId: string;
  readonly progress: (() => number) | undefined;
  seen: number;
}

const maxPerReport = 1000;

export class ActivityReport implements Activity {
  readonly #options: ActivityReportOptions;
  readonly #everyMs: number;
  readonly #uses = new Set<Use>();
  #touched = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #isSending = false;
  #isClosed = false;
  #isFailing = false;
  #sentAtMs = -Infinity;

  constructor(options: ActivityReportOptions) {
    this.#options = options;
    this.#everyMs = options.everyMs ?? 500;
  }

  use(sandboxId: string, progress?: () => number): Disposable {
    const use: Use = { sandboxId, progress, seen: progress?.() ?? 0 };
    this.#uses.add(use);
    this.#touch(sandboxId);
    return {
      [Symbol.dispose]: () => {
        if (this.#uses.delete(use) && hasMoved(use)) this.#touch(sandboxId);
      },
    };
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #touch(sandboxId: string): void {
    this.#touched.add(sandboxId);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isClosed || this.#isSending || this.#timer) return;
    const delayMs = Math.max(0, this.#sentAtMs + this.#everyMs - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void untraced(() => this.#report()); // Never rejects.
    }, delayMs);
    this.#timer.unref();
  }

  async #report(): Promise<void> {
    const ids = this.#touched;
    this.#touched = new Set();
    for (const use of this.#uses) if (hasMoved(use)) ids.add(use.sandboxId);
    this.#isSending = true;
    this.#sentAtMs = performance.now();
    const all = [...ids];
    try {
      for (let at = 0; at < all.length; at += maxPerReport) {
        await this.#options.send(all.slice(at, at + maxPerReport));
      }
      this.#isFailing = false;
    } catch (error) {
      if (!this.#isFailing) this.#options.log.warn({ err: error }, 'activity not reported; sandboxes may expire');
      this.#isFailing = true;
    }
    this.#isSending = false;
    if (this.#uses.size > 0 || this.#touched.size > 0) this.#schedule();
  }
}

function hasMoved(use: Use): boolean {
  if (!use.progress) return true;
  const now = use.progress();
  const moved = now !== use.seen;
  use.seen = now;
  return moved;
}

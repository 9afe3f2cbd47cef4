// One line about a transfer, rewritten in place. Only for a terminal.
import { formatBytes, formatMs } from './units.ts';

const everyMs = 200;

export class Progress {
  readonly #write: (text: string) => void;
  readonly #nowMs: () => number;
  #name = '';
  #sizeBytes: number | undefined;
  #doneBytes = 0;
  #startedAtMs = 0;
  #shownAtMs = -Infinity;
  #isShown = false;

  constructor(write: (text: string) => void, nowMs: () => number = () => performance.now()) {
    this.#write = write;
    this.#nowMs = nowMs;
  }

  began(name: string, sizeBytes: number | undefined): void {
    this.#name = name;
    this.#sizeBytes = sizeBytes;
    this.#doneBytes = 0;
    this.#startedAtMs = this.#nowMs();
  }

  passed(bytes: number): void {
    this.#doneBytes += bytes;
    if (this.#nowMs() - this.#shownAtMs >= everyMs) this.#show();
  }

  // Takes the line away.
  clear(): void {
    if (this.#isShown) this.#write('\r\x1b[K');
    this.#isShown = false;
  }

  #show(): void {
    this.#shownAtMs = this.#nowMs();
    this.#isShown = true;
    const elapsedMs = Math.max(1, this.#shownAtMs - this.#startedAtMs);
    const perMs = this.#doneBytes / elapsedMs;
    const parts = [this.#name, formatBytes(this.#doneBytes)];
    if (this.#sizeBytes !== undefined && this.#sizeBytes > 0) {
      parts[1] += ` of ${formatBytes(this.#sizeBytes)}`;
      parts.push(`${Math.floor((100 * this.#doneBytes) / this.#sizeBytes)} %`);
      parts.push(`${formatMs(Math.max(0, this.#sizeBytes - this.#doneBytes) / Math.max(perMs, 1e-9))} left`);
    }
    parts.push(`${formatBytes(Math.round(perMs * 1000))}/s`);
    this.#write(`\r\x1b[K${parts.join('  ')}`);
  }
}

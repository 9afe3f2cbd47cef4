const firstMs = 200;
const longestMs = 10_000;
const steadyMs = 30_000;

// How long to wait before a service that died is started again: at once after a long life, ever longer
// after a series of short ones.
export class Backoff {
  #shortLives = 0;

  nextDelayMs(livedMs: number): number {
    if (livedMs >= steadyMs) this.#shortLives = 0;
    const delayMs = Math.min(firstMs * 2 ** this.#shortLives, longestMs);
    this.#shortLives += 1;
    return delayMs;
  }
}

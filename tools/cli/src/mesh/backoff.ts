const firstMs = 200;
const longestMs = 10_000;
// What serves for as long as the longest wait is no loop of deaths: to wait would cost more than to start.
const steadyMs = longestMs;

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

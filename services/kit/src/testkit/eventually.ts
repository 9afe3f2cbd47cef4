import { setTimeout as sleep } from 'node:timers/promises';

// Awaits a condition instead of a time: returns the first truthy value, or fails after the limit with
// the last reason why not.
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  limitMs = 10_000,
): Promise<T> {
  const endMs = Date.now() + limitMs;
  let lastError: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value) return value;
    } catch (error) {
      lastError = error;
    }
    if (Date.now() > endMs) throw new Error(`not within ${limitMs} ms: ${what}`, { cause: lastError });
    await sleep(20);
  }
}

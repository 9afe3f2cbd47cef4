// Tells a VMM that has stopped (SIGSTOP, a hang) from one that is slow. It is stuck only if two independent
// signs fail together, round after round: its control socket, and the agent inside the guest. Only rounds that
// this process lived through count, so that a stall of our own is never taken for one of the VMM's.
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';

export interface Signs {
  // Each resolves to whether there was an answer within the limit; neither rejects.
  vmmAnswers(limitMs: number): Promise<boolean>;
  agentAnswers(limitMs: number): Promise<boolean>;
}

export interface WatchdogTimes {
  readonly pauseMs: number; // Between looks at a VMM that answers.
  readonly lookMs: number; // A VMM that is silent for longer is suspect.
  readonly roundMs: number; // How long either may then take to give a sign.
  readonly rounds: number; // How many in a row must pass without one.
}

// 12 s without any sign, found at most 14 s after the last one.
export const defaultTimes: WatchdogTimes = { pauseMs: 1500, lookMs: 500, roundMs: 3000, rounds: 4 };

// Resolves to true once the VMM is stuck, to false when the signal aborts.
export async function untilStuck(signs: Signs, signal: AbortSignal, times = defaultTimes): Promise<boolean> {
  for (;;) {
    try {
      await sleep(times.pauseMs, undefined, { signal });
    } catch {
      return false; // The signal.
    }
    // The guest is left alone as long as its VMM answers.
    if (await signs.vmmAnswers(times.lookMs)) continue;
    if (await isSilent(signs, signal, times)) return true;
  }
}

async function isSilent(signs: Signs, signal: AbortSignal, { roundMs, rounds }: WatchdogTimes): Promise<boolean> {
  for (let round = 0; round < rounds; round++) {
    const answers = await Promise.all([signs.vmmAnswers(roundMs), signs.agentAnswers(roundMs)]);
    if (signal.aborted || answers.includes(true)) return false;
  }
  return true;
}

// Whether an answer came within the limit. Timers run before sockets are read: what arrived while this
// process was held up is taken in before the answer is counted as missing.
export async function answersWithin(answer: Promise<unknown>, limitMs: number): Promise<boolean> {
  let hasAnswered = false;
  const settled = answer.then(
    () => void (hasAnswered = true),
    () => undefined,
  );
  const over = new AbortController();
  const limit = sleep(limitMs, undefined, { signal: over.signal }).catch(() => undefined); // Aborted: not needed.
  await Promise.race([settled, limit]);
  over.abort();
  for (let turn = 0; turn < 2 && !hasAnswered; turn++) await setImmediate();
  return hasAnswered;
}

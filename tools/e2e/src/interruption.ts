// Ctrl-C and its like, for a program that has meshes to close before it goes.
import { setTimeout as sleep } from 'node:timers/promises';

import { TestMesh } from './mesh.ts';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const settleLimitMs = 30_000;
// Of a program that Ctrl-C ended.
export const interruptedCode = 130;

// Runs `work` to its end, and returns whether it came to it. A signal, of which `work` hears, closes every mesh that is
// open, which makes `work` fail: what it started beside a mesh is its own to end.
export async function interruptibly(
  work: (interrupted: AbortSignal) => Promise<void>,
  tell: (line: string) => void,
): Promise<boolean> {
  const interrupted = new AbortController();
  const interruption = Promise.withResolvers<string>();
  for (const signal of signals) process.on(signal, interruption.resolve);
  try {
    const working = work(interrupted.signal);
    const signal = await Promise.race([working, interruption.promise]);
    if (signal === undefined) return true;
    interrupted.abort();
    for (const leftover of await TestMesh.closeAll()) tell(`left behind: ${leftover}`);
    await Promise.race([working.catch(() => undefined), sleep(settleLimitMs, undefined, { ref: false })]);
    tell(`ended by ${signal}; the mesh was stopped`);
    return false;
  } finally {
    for (const signal of signals) process.off(signal, interruption.resolve);
  }
}

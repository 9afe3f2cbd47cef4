// Ctrl-C and its like, for a program that has meshes to close before it goes.
import { setTimeout as sleep } from 'node:timers/promises';

import { TestMesh } from './mesh.ts';

export class Interrupted extends Error {
  override name = 'Interrupted';
  leftBehind: readonly string[] = [];
}

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const settleLimitMs = 30_000;

// Runs `work` to its end. A signal closes every mesh that is open, which makes `work` fail, and throws Interrupted once
// it has: what it started beside a mesh is its own to end.
export async function interruptibly<T>(work: () => Promise<T>): Promise<T> {
  const interrupted = Promise.withResolvers<never>();
  const interrupt = (signal: string) => interrupted.reject(new Interrupted(`ended by ${signal}`));
  for (const signal of signals) process.on(signal, interrupt);
  const working = work();
  try {
    return await Promise.race([working, interrupted.promise]);
  } catch (error) {
    if (error instanceof Interrupted) {
      error.leftBehind = await TestMesh.closeAll();
      await Promise.race([working.catch(() => undefined), sleep(settleLimitMs, undefined, { ref: false })]);
    }
    throw error;
  } finally {
    for (const signal of signals) process.off(signal, interrupt);
  }
}

// The frame of a program that runs meshes of its own: where they keep their data, and Ctrl-C and its like, before
// which they are to be closed.
import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import { makeDataDir } from './data-dir.ts';
import { TestMesh } from './mesh.ts';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const settleLimitMs = 30_000;
// Of a program that Ctrl-C ended.
export const interruptedCode = 130;

type Work = (dataDir: string, interrupted: AbortSignal) => Promise<void>;
type Tell = (line: string) => void;

// Runs `work` to its end, and returns whether it came to it. A signal, of which `work` hears, closes every mesh that is
// open, which makes `work` fail: what it started beside a mesh is its own to end. The data directory goes with it.
export async function runWithMeshes(program: string, work: Work, tell: Tell): Promise<boolean> {
  const dataDir = await makeDataDir(program);
  try {
    return await interruptibly((interrupted) => work(dataDir, interrupted), tell);
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function interruptibly(work: (interrupted: AbortSignal) => Promise<void>, tell: Tell): Promise<boolean> {
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

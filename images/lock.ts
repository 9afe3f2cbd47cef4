// One builder at a time for each step, over all checkouts that share a cache. The kernel holds the lock for a
// child that lives as long as our end of its stdin: however we die, the lock is free, so none is ever stale.
import { spawn } from 'node:child_process';
import { once } from 'node:events';

export async function withLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  await using _lock = await lock(path);
  return await work();
}

async function lock(path: string): Promise<AsyncDisposable> {
  const holder = spawn('flock', [path, 'sh', '-c', 'echo locked; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(holder, 'close');
  await Promise.race([
    once(holder.stdout, 'data'),
    ended.then(() => {
      throw new Error(`cannot lock ${path}`);
    }),
  ]);
  return {
    [Symbol.asyncDispose]: async () => {
      holder.stdin.end();
      await ended;
    },
  };
}

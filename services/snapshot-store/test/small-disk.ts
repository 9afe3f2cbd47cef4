import { join } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';

// A file system of its own, so small that it fills; unmounted whatever happens.
export async function smallDisk(path: string, options: string): Promise<AsyncDisposable> {
  await runProgram('mount', ['-t', 'tmpfs', '-o', options, 'wrenn-test', path]);
  return { [Symbol.asyncDispose]: async () => void (await runProgram('umount', [path])) };
}

// Leaves so much room and no more.
export async function fill(path: string, leaveKiB: number): Promise<void> {
  const free = Number((await runProgram('df', ['--output=avail', '-k', path])).split('\n')[1]);
  await runProgram('fallocate', ['-l', `${free - leaveKiB}KiB`, join(path, 'filler')]);
}

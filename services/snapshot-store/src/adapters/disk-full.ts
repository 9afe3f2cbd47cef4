// A full disk is the operator's business, so it gets a reason of its own wherever it shows: as an errno
// of ours or in the words of a program we ran (in the C locale).
import { WrennError } from '@wrenn/kit/errors';
import { ProgramError } from '@wrenn/kit/run-program';

const words = /No space left on device|Disk quota exceeded/;

export async function tellingDiskFull<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isDiskFull(error)) throw error;
    throw new WrennError('DISK_FULL', 'the disk of the snapshot store is full', { cause: error });
  }
}

export function isDiskFull(error: unknown): boolean {
  if (error instanceof ProgramError) return words.test(error.stderr);
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOSPC' || code === 'EDQUOT';
}

// What programs are run with: their messages must be those we know.
export const programEnv = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };

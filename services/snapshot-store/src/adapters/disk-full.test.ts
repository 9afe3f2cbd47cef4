import { runProgram } from '@wrenn/kit/run-program';
import { expect, test } from 'vitest';

import { programEnv, tellingDiskFull } from './disk-full.ts';

test('a full disk is told by its reason, whether a program or a system call met it', async () => {
  const program = () => runProgram('dd', ['if=/dev/zero', 'of=/dev/full', 'count=1'], { env: programEnv });
  await expect(tellingDiskFull(program)).rejects.toMatchObject({ reason: 'DISK_FULL' });
  const call = async () => {
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  };
  await expect(tellingDiskFull(call)).rejects.toMatchObject({ reason: 'DISK_FULL' });
});

test('any other failure stays what it is', async () => {
  const failing = () => runProgram('cp', ['--', '/nowhere/a', '/nowhere/b'], { env: programEnv });
  await expect(tellingDiskFull(failing)).rejects.toMatchObject({ name: 'ProgramError' });
  await expect(tellingDiskFull(() => Promise.reject(new Error('other')))).rejects.toThrow('other');
});

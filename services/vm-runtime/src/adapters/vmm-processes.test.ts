import { spawn } from 'node:child_process';

import { hasEndedWithin } from '@wrenn/kit/process-identity';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { processesNamed } from './vmm-processes.ts';

test('finds a process by the whole name on its command line and not by a part of it', async () => {
  const name = `wrenn-test-${process.pid}`;
  const child = spawn('sh', ['-c', 'read line', 'x', '-name', name], { stdio: ['pipe', 'ignore', 'ignore'] });
  try {
    const [found] = await eventually('the process is listed', () => {
      const processes = processesNamed(name);
      return processes.length === 1 && processes;
    });
    expect(found?.pid).toBe(child.pid);
    expect(processesNamed(name.slice(0, -1))).toEqual([]);
    child.kill('SIGKILL');
    expect(await hasEndedWithin(found!, 5000)).toBe(true);
    expect(processesNamed(name)).toEqual([]);
  } finally {
    child.kill('SIGKILL');
  }
});

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';

import { expect, test } from 'vitest';

import { giveNiceness } from './niceness.ts';

test.each([-10, 5])('a process of niceness %i has it among processes and among sessions', async (niceness) => {
  const child = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' });
  try {
    await once(child, 'spawn');
    const pid = child.pid ?? 0;
    giveNiceness(pid, niceness);
    expect(getPriority(pid)).toBe(niceness);
    const session = `/proc/${pid}/autogroup`;
    if (existsSync(session)) expect(readFileSync(session, 'utf8')).toContain(` nice ${niceness}\n`);
  } finally {
    child.kill();
  }
});

test('a process that has ended is told of', () => {
  expect(() => giveNiceness(2 ** 22, 1)).toThrow(/ESRCH/);
});

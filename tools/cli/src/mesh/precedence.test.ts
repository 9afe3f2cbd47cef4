import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';

import { runProgram } from '@wrenn/kit/run-program';
import { expect, test } from 'vitest';

import { givePrecedence } from './precedence.ts';

test.each([
  ['commands', -10, 'SCHED_RR|SCHED_RESET_ON_FORK'],
  ['usual', 0, 'SCHED_OTHER'],
  ['bytes', 5, 'SCHED_OTHER'],
] as const)('what is for %s has niceness %i, as a process and as a session, and the class %s', async (...row) => {
  const [precedence, niceness, policy] = row;
  const child = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' });
  try {
    await once(child, 'spawn');
    const pid = child.pid ?? 0;
    await givePrecedence(pid, precedence);
    expect(getPriority(pid)).toBe(niceness);
    const session = `/proc/${pid}/autogroup`;
    if (existsSync(session)) expect(readFileSync(session, 'utf8')).toContain(` nice ${niceness}\n`);
    expect(await runProgram('chrt', ['--pid', String(pid)])).toContain(`policy: ${policy}\n`);
  } finally {
    child.kill();
  }
});

test('what comes first does not pass that on to what it starts', async () => {
  const child = spawn('sh', ['-c', 'read go; sleep 60 & echo $!; wait'], { detached: true });
  try {
    await givePrecedence(child.pid ?? 0, 'commands');
    child.stdin.end('\n');
    const [started] = (await once(child.stdout, 'data')) as [Buffer];
    expect(await runProgram('chrt', ['--pid', String(started).trim()])).toContain('policy: SCHED_OTHER\n');
  } finally {
    process.kill(-(child.pid ?? 0), 'SIGKILL');
  }
});

test('a session that it does not lead is left as it is', async () => {
  const leader = spawn('sh', ['-c', 'sleep 60 & echo $!; wait'], { detached: true });
  try {
    const [started] = (await once(leader.stdout, 'data')) as [Buffer];
    const pid = Number(String(started));
    await givePrecedence(pid, 'commands');
    expect(getPriority(pid)).toBe(-10);
    const session = `/proc/${pid}/autogroup`;
    if (existsSync(session)) expect(readFileSync(session, 'utf8')).toContain(' nice 0\n');
  } finally {
    process.kill(-(leader.pid ?? 0), 'SIGKILL');
  }
});

test('a process that has ended is told of', async () => {
  await expect(givePrecedence(2 ** 22, 'bytes')).rejects.toThrow(/ESRCH/);
});

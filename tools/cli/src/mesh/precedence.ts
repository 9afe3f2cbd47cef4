// Who comes first where a processor is wanted by more than there is of it.
import { existsSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';

import { runProgram } from '@wrenn/kit/run-program';

import { leadsSession } from '../proc.ts';

// Commands: what works a moment at a time, while somebody waits. Bytes: what moves them in number.
export type Precedence = 'commands' | 'usual' | 'bytes';

const nicenessOf: Record<Precedence, number> = { commands: -10, usual: 0, bytes: 5 };

// Where the kernel weighs sessions against each other (autogroup), a session's niceness is what counts between them. It is
// given to one that the process leads: any other is also somebody else's, a person's shell above all, and would keep it.
// What the process starts itself has the usual precedence.
export async function givePrecedence(pid: number, precedence: Precedence): Promise<void> {
  const niceness = nicenessOf[precedence];
  setPriority(pid, niceness);
  const session = `/proc/${pid}/autogroup`;
  if (leadsSession(pid) && existsSync(session)) writeFileSync(session, String(niceness));
  // Niceness is a share, not a turn: a thread that wakes still waits for others' slices. One of the real-time class
  // does not. The kernel leaves the rest 5 % of the time whatever such a thread does (sched_rt_runtime_us).
  const isFirst = precedence === 'commands';
  const policy = isFirst ? ['--reset-on-fork', '--rr', '--pid', '1'] : ['--other', '--pid', '0'];
  await runProgram('chrt', [...policy, String(pid)]);
}

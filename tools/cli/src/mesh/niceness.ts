// A process's share of a processor that is wanted by more than there is of it. It must lead a session of its own:
// where the kernel weighs sessions against each other (autogroup), that is what counts between them.
import { existsSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';

// -20 comes first, 0 is what any process has, 19 comes last. Below 0 is root's.
export function giveNiceness(pid: number, niceness: number): void {
  setPriority(pid, niceness);
  const session = `/proc/${pid}/autogroup`;
  if (existsSync(session)) writeFileSync(session, String(niceness));
}

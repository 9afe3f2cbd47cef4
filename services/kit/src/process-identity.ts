// A pid alone may be a stranger's by the time it is used; with its start time it names one process for ever.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: number; // Since boot, as in /proc/PID/stat field 22.
}

// The process that has this pid now; undefined if there is none or only a zombie is left. One whose first thread
// alone has ended looks like a zombie, and still has its sockets and files open.
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
  // The name in parentheses may itself hold spaces and parentheses.
  const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const threadCount = Number(rest[16]);
  if (state === 'X' || (state === 'Z' && threadCount <= 1)) return undefined;
  return { pid, startTicks: Number(rest[18]) };
}

export function isRunning(identity: ProcessIdentity): boolean {
  return identifyProcess(identity.pid)?.startTicks === identity.startTicks;
}

export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): void {
  if (!isRunning(identity)) return;
  try {
    process.kill(identity.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

// Resolves to true once the process is gone, to false if it still runs after the limit.
export async function hasEndedWithin(identity: ProcessIdentity, limitMs: number): Promise<boolean> {
  const endMs = Date.now() + limitMs;
  // Short looks at first: a pause waits for the end of a VMM that was killed just now.
  for (let pauseMs = 1; isRunning(identity); pauseMs = Math.min(pauseMs + 0.5, 5)) {
    if (Date.now() > endMs) return false;
    await sleep(pauseMs);
  }
  return true;
}

// Runs one command in a guest to its end and collects what it wrote.
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';

import type { Command, GuestAgent, ProcessEvent, Selector } from './guest-agent.ts';

export interface ExecOptions {
  readonly command: Command;
  readonly stdin: Uint8Array;
  readonly timeoutMs: number;
  readonly maxOutputBytes: number;
}

export interface ExecResult {
  readonly exitCode: number;
  readonly signal: number;
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly isTruncated: boolean;
  readonly isTimedOut: boolean;
  readonly durationMs: number;
}

const sigkill = 9;
// How long a killed process group may take to be gone; one stuck in the kernel is given up. The thousand processes of
// a fork bomb were seen to take 4 s on a host that was busy with others.
export const killLimitMs = 15_000;
const stdinChunkBytes = 1024 * 1024;

// Errors: those of starting; AGENT_MISBEHAVED if the stream ends without an exit. `caller` aborting kills
// the command.
export async function exec(agent: GuestAgent, options: ExecOptions, caller: AbortSignal): Promise<ExecResult> {
  const startedAtMs = performance.now();
  const output = new CappedOutput(options.maxOutputBytes);
  const stop = new AbortController();
  const fed = new AbortController();
  let selector: Selector | undefined;
  let isTimedOut = false;
  let abandon: NodeJS.Timeout | undefined;
  let feeding: Promise<void> | undefined;
  let failure: unknown;
  let exit: Extract<ProcessEvent, { kind: 'exited' }> | undefined;
  const fail = (error: unknown) => {
    failure ??= error;
    kill();
  };

  const kill = () => {
    abandon ??= setTimeout(() => stop.abort(), killLimitMs);
    if (!selector) return;
    agent.signal(selector, sigkill, inMs(killLimitMs)).catch((error: unknown) => {
      if (!hasReason(error, 'PROCESS_NOT_FOUND')) failure ??= error;
    });
  };
  const timeout = setTimeout(() => {
    isTimedOut = true;
    kill();
  }, options.timeoutMs);
  caller.addEventListener('abort', kill, { once: true });
  if (caller.aborted) stop.abort();

  try {
    const hasStdin = options.stdin.length > 0;
    // To the stream's own end: leaving it after the exit would cancel a call that has succeeded.
    for await (const event of agent.start(options.command, { hasStdin }, stop.signal)) {
      if (event.kind === 'started') {
        selector = { pid: event.pid };
        if (isTimedOut || caller.aborted) kill();
        else if (hasStdin) feeding = feed(agent, selector, options.stdin, fed.signal).catch(fail);
      } else if (event.kind === 'exited') {
        exit = event;
        if (feeding) fed.abort();
      } else if (event.kind === 'stdout' || event.kind === 'stderr') {
        output.add(event.kind, event.data);
      }
    }
    await feeding;
    if (failure) throw failure;
    if (caller.aborted) throw new WrennError('CANCELLED', 'the caller left; the command was killed');
    if (!exit) throw new WrennError('AGENT_MISBEHAVED', 'the agent ended the stream without the end of the process');
    const { exitCode, signal } = exit;
    return { exitCode, signal, ...output.taken(), isTimedOut, durationMs: performance.now() - startedAtMs };
  } catch (error) {
    if (abandon && stop.signal.aborted && hasReason(error, 'CANCELLED') && !caller.aborted) {
      throw new WrennError('AGENT_UNREACHABLE', `the command did not end within ${killLimitMs} ms of being killed`, {
        cause: failure ?? error,
      });
    }
    throw error;
  } finally {
    clearTimeout(timeout);
    clearTimeout(abandon);
    caller.removeEventListener('abort', kill);
    // Only what is under way: aborting costs the stack trace of an error that nobody sees.
    if (feeding) fed.abort();
    if (!exit) stop.abort();
  }
}

// A command need not read its stdin: one that ends or closes it early is judged by its exit code.
async function feed(agent: GuestAgent, selector: Selector, stdin: Uint8Array, signal: AbortSignal): Promise<void> {
  const call = { signal, deadlineAtMs: Date.now() + 24 * 3_600_000 };
  try {
    for (let at = 0; at < stdin.length; at += stdinChunkBytes) {
      await agent.sendInput(selector, stdin.subarray(at, at + stdinChunkBytes), call);
    }
    await agent.closeStdin(selector, call);
  } catch (error) {
    if (!hasReason(error, 'STDIN_CLOSED', 'PROCESS_NOT_FOUND', 'CANCELLED')) throw error;
  }
}

// Keeps what came first, over both streams together, up to a cap.
export class CappedOutput {
  readonly #chunks: Record<'stdout' | 'stderr', Uint8Array[]> = { stdout: [], stderr: [] };
  #leftBytes: number;
  #isTruncated = false;

  constructor(maxBytes: number) {
    this.#leftBytes = maxBytes;
  }

  add(kind: 'stdout' | 'stderr', data: Uint8Array): void {
    if (data.length > this.#leftBytes) this.#isTruncated = true;
    const kept = data.subarray(0, this.#leftBytes);
    this.#leftBytes -= kept.length;
    if (kept.length > 0) this.#chunks[kind].push(kept);
  }

  taken(): { stdout: Uint8Array; stderr: Uint8Array; isTruncated: boolean } {
    const { stdout, stderr } = this.#chunks;
    return { stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr), isTruncated: this.#isTruncated };
  }
}

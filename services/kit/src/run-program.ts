// Runs a short-lived program of the system to its end. Arguments are never parsed by a shell.
import { type ChildProcess, spawn } from 'node:child_process';
import { basename } from 'node:path';

import { AbortError } from 'abort-controller-x';

import { inSpan } from './telemetry/span.ts';

export interface RunOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly env?: NodeJS.ProcessEnv;
}

export type RunProgram = (program: string, args: readonly string[], options?: RunOptions) => Promise<string>;

export class ProgramError extends Error {
  override readonly name = 'ProgramError';
  readonly exitCode: number | null;
  readonly stderr: string;

  constructor(
    command: string,
    exitCode: number | null,
    stderr: string,
    why = `exit code ${exitCode}`,
    cause?: unknown,
  ) {
    super(`${command} failed (${why}): ${stderr.trim().slice(0, 2000)}`, { cause });
    this.exitCode = exitCode;
    this.stderr = stderr;
  }
}

const outputLimit = 16 * 1024 * 1024;

// Resolves to its stdout. Rejects with ProgramError unless it exits with 0 within the time limit (30 s) and
// prints at most 16 MiB; with AbortError when the signal aborts. It and all it started are dead then.
export const runProgram: RunProgram = (program, args, options = {}) =>
  inSpan(`run ${basename(program)}`, {}, () => ended(program, args, options));

const ended: RunProgram = (program, args, options = {}) =>
  new Promise((resolve, reject) => {
    const command = [program, ...args].join(' ').slice(0, 300);
    const { timeoutMs = 30_000, signal, input = '', env } = options;
    if (signal?.aborted) {
      reject(new AbortError());
      return;
    }
    // In a process group of its own: a child of it that holds the pipes open must not outlive the limit.
    // One that had no descriptors left for its pipes has none, and tells of it as an error later.
    const child: ChildProcess = spawn(program, args, { stdio: 'pipe', detached: true, ...(env && { env }) });
    let stopped: string | undefined;
    const stop = (why: string) => {
      stopped ??= why;
      killGroup(child);
    };
    const timer = setTimeout(() => stop(`no end within ${timeoutMs} ms`), timeoutMs);
    const abort = () => stop('aborted');
    signal?.addEventListener('abort', abort, { once: true });
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      if (stdout.length > outputLimit) stop(`more than ${outputLimit} bytes of output`);
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (stderr.length < 65_536) stderr += text;
    });
    child.on('error', (error) => {
      settle();
      reject(new ProgramError(command, null, '', error.message, error));
    });
    child.on('close', (code, killedBy) => {
      settle();
      if (stopped === 'aborted') reject(new AbortError());
      else if (code === 0 && !stopped) resolve(stdout);
      else reject(new ProgramError(command, code, stderr, stopped ?? (killedBy ? `killed by ${killedBy}` : undefined)));
    });
    // A program that ends without reading its input is judged by its exit code, not by EPIPE.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

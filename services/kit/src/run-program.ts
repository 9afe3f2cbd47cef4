// Runs a short-lived program of the system to its end. Arguments are never parsed by a shell.
import { spawn } from 'node:child_process';

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

  constructor(command: string, exitCode: number | null, stderr: string) {
    super(`${command} failed (${exitCode ?? 'killed'}): ${stderr.trim().slice(0, 2000)}`);
    this.exitCode = exitCode;
    this.stderr = stderr;
  }
}

const outputLimit = 16 * 1024 * 1024;

// Resolves to its stdout; rejects with ProgramError unless it exits with 0 within the time limit (30 s).
export const runProgram: RunProgram = (program, args, options = {}) =>
  new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: options.timeoutMs ?? 30_000,
      killSignal: 'SIGKILL',
      ...(options.signal && { signal: options.signal }),
      ...(options.env && { env: options.env }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      if (stdout.length > outputLimit) child.kill('SIGKILL');
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (stderr.length < 65_536) stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve(stdout);
      else reject(new ProgramError([program, ...args].join(' ').slice(0, 300), code, stderr));
    });
    // A program that ends without reading its input is judged by its exit code, not by EPIPE.
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
  });

// The command line as its users run it: the installed program, its streams and its exit code.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';

import { repositoryRoot } from '@wrenn/cli/mesh/options';

export interface CliResult {
  readonly code: number | null;
  readonly out: Buffer;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly stdin?: string | Uint8Array; // Undefined: /dev/null, as at the end of a script.
  readonly env?: Readonly<Record<string, string>>;
}

export interface RunningCli {
  readonly child: ChildProcess;
  readonly result: Promise<CliResult>;
}

export function startCli(args: readonly string[], options: CliOptions = {}): RunningCli {
  const child = spawn(join(repositoryRoot, 'tools/cli/bin/wrenn'), args, {
    cwd: '/', // It must work from anywhere.
    env: { PATH: process.env['PATH'] ?? '', HOME: '/root', ...options.env },
    stdio: [options.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
  child.stdin?.on('error', () => undefined); // A program may end without reading all its input.
  child.stdin?.end(options.stdin);
  const result = new Promise<CliResult>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      const all = Buffer.concat(out);
      resolve({ code, out: all, stdout: all.toString(), stderr: Buffer.concat(err).toString() });
    });
  });
  return { child, result };
}

export function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return startCli(args, options).result;
}

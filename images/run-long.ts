// Runs a program that takes its time, saying every ten seconds what it printed last. It dies with us.
import { spawn } from 'node:child_process';
import type { Say } from './cache.ts';

const saidEveryMs = 10_000;
const keptLines = 40;

export interface LongRun {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
}

export function runLong(say: Say, program: string, args: readonly string[], options: LongRun = {}): Promise<void> {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(options.cwd && { cwd: options.cwd }),
      ...(options.env && { env: options.env }),
    });
    const lines: string[] = [];
    const keep = (text: string): void => {
      lines.push(...text.split(/[\r\n]+/).filter((line) => line.trim() !== ''));
      lines.splice(0, lines.length - keptLines);
    };
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    const timer = setInterval(() => {
      const seconds = Math.round((performance.now() - began) / 1000);
      say(`${seconds} s: ${(lines.at(-1) ?? program).trim().slice(0, 80)}`);
    }, saidEveryMs);
    child.on('error', (error) => {
      clearInterval(timer);
      reject(error);
    });
    child.on('close', (code, signal) => {
      clearInterval(timer);
      if (code === 0) resolve();
      else reject(new Error(`${program} ended with ${code ?? signal}:\n${lines.join('\n')}`));
    });
  });
}

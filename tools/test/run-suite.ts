// One suite: a program, and how to count the tests in what it leaves behind.
import { spawn } from 'node:child_process';
import { messageOf } from '@wrenn/kit/errors';

import { judge, type Counts } from './counts.ts';

export interface Suite {
  readonly title: string;
  readonly command: readonly [string, ...string[]];
  readonly cwd?: string;
  // Counts the tests once the program has ended; `output` is all it printed.
  readonly count: (output: string) => Promise<Counts>;
}

export interface Outcome extends Counts {
  readonly title: string;
  readonly ms: number;
}

// What it prints is shown as it comes, or, of one beside another, once it has ended.
export async function runSuite(suite: Suite, isLive = true): Promise<Outcome> {
  const title = `\n== ${suite.title}: ${suite.command.join(' ')}\n`;
  if (isLive) process.stdout.write(title);
  const began = performance.now();
  const { exitCode, output } = await run(suite, isLive ? (text) => process.stdout.write(text) : () => undefined);
  if (!isLive) process.stdout.write(title + output);
  let counts: Counts;
  try {
    counts = judge(await suite.count(output), exitCode);
  } catch (error) {
    counts = { passed: 0, failed: 1, failures: [`no usable result: ${messageOf(error)}`] };
  }
  return { title: suite.title, ...counts, ms: performance.now() - began };
}

// A program that cannot start ends with 127.
function run(suite: Suite, show: (text: string) => void): Promise<{ exitCode: number; output: string }> {
  return new Promise((resolve) => {
    const [program, ...args] = suite.command;
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...(suite.cwd && { cwd: suite.cwd }) });
    let output = '';
    const take = (text: string): void => {
      output += text;
      show(text);
    };
    child.stdout.setEncoding('utf8').on('data', take);
    child.stderr.setEncoding('utf8').on('data', take);
    child.on('error', (error) => resolve({ exitCode: 127, output: `${output}${error.message}` }));
    child.on('close', (code) => resolve({ exitCode: code ?? 128, output }));
  });
}

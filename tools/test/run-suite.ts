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

export async function runSuite(suite: Suite): Promise<Outcome> {
  process.stdout.write(`\n== ${suite.title}: ${suite.command.join(' ')}\n`);
  const began = performance.now();
  const { exitCode, output } = await stream(suite);
  let counts: Counts;
  try {
    counts = judge(await suite.count(output), exitCode);
  } catch (error) {
    counts = { passed: 0, failed: 1, failures: [`no usable result: ${messageOf(error)}`] };
  }
  return { title: suite.title, ...counts, ms: performance.now() - began };
}

// Shows the program's output as it comes and returns it too. A program that cannot start ends with 127.
function stream(suite: Suite): Promise<{ exitCode: number; output: string }> {
  return new Promise((resolve) => {
    const [program, ...args] = suite.command;
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...(suite.cwd && { cwd: suite.cwd }) });
    let output = '';
    const show = (text: string): void => {
      output += text;
      process.stdout.write(text);
    };
    child.stdout.setEncoding('utf8').on('data', show);
    child.stderr.setEncoding('utf8').on('data', show);
    child.on('error', (error) => resolve({ exitCode: 127, output: `${output}${error.message}` }));
    child.on('close', (code) => resolve({ exitCode: code ?? 128, output }));
  });
}

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

// Of one beside another what it prints is shown once it has ended, and it leaves the processors to the other: that one
// waits and is to go on in time, while compilers only compute.
export async function runSuite(suite: Suite, isLive = true): Promise<Outcome> {
  const title = `\n== ${suite.title}: ${suite.command.join(' ')}\n`;
  if (isLive) process.stdout.write(title);
  const began = performance.now();
  const command = isLive ? suite.command : (['nice', '-n', '5', ...suite.command] as const);
  const { exitCode, output } = await run(command, suite.cwd, (text) => isLive && process.stdout.write(text));
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
function run(
  [program, ...args]: Suite['command'],
  cwd: string | undefined,
  show: (text: string) => void,
): Promise<{ exitCode: number; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...(cwd !== undefined && { cwd }) });
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

// Runs checks two at a time and prints one line for each, then the output of those that failed.
import { spawn } from 'node:child_process';

export interface Check {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly cwd?: string;
  // Turns an exit code into a note where it does not simply mean pass or fail.
  readonly explain?: (exitCode: number) => string | undefined;
}

export async function runChecks(checks: readonly Check[]): Promise<boolean> {
  const waiting = [...checks];
  let isGreen = true;
  const worker = async (): Promise<void> => {
    for (let check = waiting.shift(); check; check = waiting.shift()) {
      const began = performance.now();
      const { exitCode, output } = await run(check);
      const took = `${((performance.now() - began) / 1000).toFixed(1)} s`;
      if (exitCode === 0) {
        process.stdout.write(`ok   ${check.name} (${took})\n`);
        continue;
      }
      isGreen = false;
      const note = check.explain?.(exitCode);
      process.stdout.write(`FAIL ${check.name} (${took})${note ? `: ${note}` : ''}\n${indent(output)}`);
    }
  };
  await Promise.all([worker(), worker()]);
  return isGreen;
}

function indent(output: string): string {
  const text = output.trimEnd();
  return text === '' ? '' : `${text.replaceAll(/^/gm, '     | ')}\n`;
}

function run(check: Check): Promise<{ exitCode: number; output: string }> {
  return new Promise((resolve) => {
    const [program, ...args] = check.command;
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...(check.cwd && { cwd: check.cwd }) });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
    child.on('error', (error) => resolve({ exitCode: 127, output: error.message }));
    child.on('close', (code) => resolve({ exitCode: code ?? 128, output }));
  });
}

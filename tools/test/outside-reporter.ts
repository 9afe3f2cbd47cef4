// vitest's JSON report is silent about errors that no test caught, though they fail the run: a line for each.
import type { SerializedError } from 'vitest';
import type { Reporter, TestModule } from 'vitest/node';

const mark = 'OUTSIDE OF TESTS: ';

export default class OutsideReporter implements Reporter {
  onTestRunEnd(_modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    for (const { message, stack = '' } of errors) {
      const place = stack.split('\n').find((line) => line.includes('/services/') || line.includes('/tools/')) ?? '';
      process.stdout.write(`${mark}${message.split('\n')[0]} ${place.trim()}\n`);
    }
  }
}

export function outsideFailures(output: string): string[] {
  return output.split('\n').filter((line) => line.startsWith(mark));
}

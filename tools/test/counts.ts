// How many tests passed and failed, and which failed, read from what each kind of runner leaves behind.
import { basename } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly failures: readonly string[]; // What failed, a line each: the end of a log is all that may be kept of it.
}

// A suite that ran no test, or ended badly without naming a failed test, counts one failure.
export function judge(counts: Counts, exitCode: number): Counts {
  if (counts.failed > 0 || (exitCode === 0 && counts.passed > 0)) return counts;
  const why = exitCode === 0 ? 'no test ran' : `ended with ${exitCode}, and no test says why`;
  return { ...counts, failed: 1, failures: [why] };
}

// vitest's JSON report. A file that fails to load has no tests of its own: it counts as one failure, and so does each
// error that came from outside of any test.
export function countVitest(report: string, outside: readonly string[] = []): Counts {
  const { numPassedTests, numFailedTests, testResults } = JSON.parse(report) as {
    numPassedTests: number;
    numFailedTests: number;
    testResults: FileResult[];
  };
  const unloadable = testResults.filter(({ status, assertionResults }) => {
    return status === 'failed' && assertionResults.length === 0;
  });
  return {
    passed: numPassedTests,
    failed: numFailedTests + unloadable.length + outside.length,
    failures: [...testResults.flatMap(failuresOf), ...outside],
  };
}

interface FileResult {
  readonly name: string;
  readonly status: string;
  readonly message?: string;
  readonly assertionResults: readonly {
    readonly status: string;
    readonly fullName: string;
    readonly failureMessages?: readonly string[];
  }[];
}

function failuresOf({ name, status, message, assertionResults }: FileResult): string[] {
  const file = basename(name);
  if (status === 'failed' && assertionResults.length === 0) return [`${file}: ${firstLine(message)}`];
  return assertionResults
    .filter((test) => test.status === 'failed')
    .map(({ fullName, failureMessages }) => `${file}: ${fullName.trim()}: ${firstLine(failureMessages?.[0])}`);
}

function firstLine(message = ''): string {
  return (stripVTControlCharacters(message).split('\n')[0] ?? '').slice(0, 300);
}

// cargo prints one `test result:` line for each test binary.
export function countCargo(output: string): Counts {
  const lines = [...output.matchAll(/^test result: .*? (\d+) passed; (\d+) failed;/gm)];
  return {
    passed: lines.reduce((sum, line) => sum + Number(line[1]), 0),
    failed: lines.reduce((sum, line) => sum + Number(line[2]), 0),
    failures: [...output.matchAll(/^test (.+) \.\.\. FAILED$/gm)].map((line) => line[1]!),
  };
}

// check.ts prints `ok   step` or `FAIL step`, one line for each.
export function countChecks(output: string): Counts {
  return {
    passed: output.match(/^ok {3}\S/gm)?.length ?? 0,
    failed: output.match(/^FAIL \S/gm)?.length ?? 0,
    failures: output.match(/^FAIL \S.*$/gm) ?? [],
  };
}

// How many tests passed and failed, read from what each kind of runner leaves behind.
export interface Counts {
  readonly passed: number;
  readonly failed: number;
}

// A suite that ran no test, or ended badly without naming a failed test, counts one failure.
export function sumCounts(parts: readonly Counts[], exitCode: number): Counts {
  const passed = parts.reduce((sum, part) => sum + part.passed, 0);
  const failed = parts.reduce((sum, part) => sum + part.failed, 0);
  const silentFailure = failed === 0 && (exitCode !== 0 || passed === 0);
  return { passed, failed: silentFailure ? 1 : failed };
}

// vitest's JSON report. A file that fails to load has no tests of its own: it counts as one failure.
export function countVitest(report: string): Counts {
  const { numPassedTests, numFailedTests, testResults } = JSON.parse(report) as {
    numPassedTests: number;
    numFailedTests: number;
    testResults: { status: string; assertionResults: unknown[] }[];
  };
  const unloadable = testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  ).length;
  return { passed: numPassedTests, failed: numFailedTests + unloadable };
}

// cargo prints one `test result:` line for each test binary.
export function countCargo(output: string): Counts {
  const lines = [...output.matchAll(/^test result: .*? (\d+) passed; (\d+) failed;/gm)];
  return {
    passed: lines.reduce((sum, line) => sum + Number(line[1]), 0),
    failed: lines.reduce((sum, line) => sum + Number(line[2]), 0),
  };
}

// check.ts prints `ok   step` or `FAIL step`, one line for each.
export function countChecks(output: string): Counts {
  return {
    passed: output.match(/^ok {3}\S/gm)?.length ?? 0,
    failed: output.match(/^FAIL \S/gm)?.length ?? 0,
  };
}

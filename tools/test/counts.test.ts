import { expect, test } from 'vitest';
import { countCargo, countChecks, countVitest, sumCounts } from './counts.ts';

test('a suite that ran no test counts as one failure', () => {
  expect(sumCounts([], 0)).toEqual({ passed: 0, failed: 1 });
});

test('a suite that ends badly without a failed test counts as one failure', () => {
  expect(sumCounts([{ passed: 3, failed: 0 }], 1)).toEqual({ passed: 3, failed: 1 });
});

test('failed tests are counted once, whatever the exit code', () => {
  expect(sumCounts([{ passed: 3, failed: 2 }], 1)).toEqual({ passed: 3, failed: 2 });
});

test('a test file that cannot be loaded counts as a failure', () => {
  const report = { numPassedTests: 2, numFailedTests: 0, testResults: [{ status: 'failed', assertionResults: [] }] };
  expect(countVitest(JSON.stringify(report))).toEqual({ passed: 2, failed: 1 });
});

test('the results of all test binaries of a cargo run are added', () => {
  const output = [
    'test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s',
    'noise',
    'test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s',
  ].join('\n');
  expect(countCargo(output)).toEqual({ passed: 13, failed: 2 });
});

test('each check counts as one test', () => {
  expect(countChecks('ok   types (1.0 s)\nFAIL lint (2.0 s)\n     | ok   not a check\n')).toEqual({
    passed: 1,
    failed: 1,
  });
});

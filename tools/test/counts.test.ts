import { expect, test } from 'vitest';
import { countCargo, countChecks, countVitest, judge } from './counts.ts';
import { outsideFailures } from './outside-reporter.ts';

const counted = (passed: number, failed: number) => ({ passed, failed, failures: [] });

test('a suite that ran no test counts as one failure', () => {
  expect(judge(counted(0, 0), 0)).toEqual({ passed: 0, failed: 1, failures: ['no test ran'] });
});

test('a suite that ends badly without a failed test counts as one failure', () => {
  expect(judge(counted(3, 0), 1)).toMatchObject({
    passed: 3,
    failed: 1,
    failures: [expect.stringContaining('ended with 1')],
  });
});

test('failed tests are counted once, whatever the exit code', () => {
  expect(judge(counted(3, 2), 1)).toMatchObject({ passed: 3, failed: 2 });
});

test('a test file that cannot be loaded counts as a failure', () => {
  const file = { name: '/x/a.test.ts', status: 'failed', message: 'no such module\n  at b', assertionResults: [] };
  const report = { numPassedTests: 2, numFailedTests: 0, testResults: [file] };
  expect(countVitest(JSON.stringify(report))).toEqual({
    passed: 2,
    failed: 1,
    failures: ['a.test.ts: no such module'],
  });
});

test('an error outside of any test counts as a failure and is named', () => {
  const report = { numPassedTests: 2, numFailedTests: 0, testResults: [] };
  const outside = outsideFailures('ok\nOUTSIDE OF TESTS: write EPIPE at x.ts:3\nok');
  expect(countVitest(JSON.stringify(report), outside)).toEqual({
    passed: 2,
    failed: 1,
    failures: ['OUTSIDE OF TESTS: write EPIPE at x.ts:3'],
  });
});

test('each failed test is named with its file and the first line of what went wrong', () => {
  const bad = {
    status: 'failed',
    fullName: ' a leak',
    failureMessages: ['\u001b[31mexpected [] to equal\u001b[39m\n at c'],
  };
  const file = {
    name: '/x/a.test.ts',
    status: 'failed',
    assertionResults: [bad, { status: 'passed', fullName: 'ok' }],
  };
  const report = { numPassedTests: 1, numFailedTests: 1, testResults: [file] };
  expect(countVitest(JSON.stringify(report)).failures).toEqual(['a.test.ts: a leak: expected [] to equal']);
});

test('the results of all test binaries of a cargo run are added', () => {
  const output = [
    'test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s',
    'test pager::dies ... FAILED',
    'test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s',
  ].join('\n');
  expect(countCargo(output)).toEqual({ passed: 13, failed: 2, failures: ['pager::dies'] });
});

test('each check counts as one test', () => {
  expect(countChecks('ok   types (1.0 s)\nFAIL lint (2.0 s)\n     | ok   not a check\n')).toEqual({
    passed: 1,
    failed: 1,
    failures: ['FAIL lint (2.0 s)'],
  });
});

import { expect, test } from 'vitest';
import { countCargo } from './counts.ts';
import { runSuite, type Suite } from './run-suite.ts';

const suite = (script: string, count: Suite['count'] = async (output) => countCargo(output)): Suite => ({
  title: 'a suite',
  command: ['sh', '-c', script],
  count,
});

const green = 'test result: ok. 3 passed; 0 failed; 0 ignored;';

test('the tests of a suite are counted from what it prints', async () => {
  expect(await runSuite(suite(`echo '${green}'`))).toMatchObject({ passed: 3, failed: 0 });
});

test('a suite beside another is counted just so', async () => {
  expect(await runSuite(suite(`echo '${green}'; exit 1`), false)).toMatchObject({ passed: 3, failed: 1 });
});

test('a suite beside another leaves the processors to that one', async () => {
  const nicenessOf = async (isLive: boolean) => {
    let niceness = '';
    const told = suite('nice', async (output) => ((niceness = output.trim()), { passed: 1, failed: 0, failures: [] }));
    await runSuite(told, isLive);
    return Number(niceness);
  };
  expect(await nicenessOf(false)).toBe((await nicenessOf(true)) + 5);
});

test('a suite that ends badly after green tests is not green', async () => {
  expect(await runSuite(suite(`echo '${green}'; kill -9 $$`))).toMatchObject({ passed: 3, failed: 1 });
});

test('a suite that runs no test is not green', async () => {
  expect(await runSuite(suite('true'))).toMatchObject({ passed: 0, failed: 1 });
});

test('a suite whose program is missing is a failure, not an end of the whole run', async () => {
  const missing: Suite = { ...suite(''), command: ['/nonexistent/program'] };
  expect(await runSuite(missing)).toMatchObject({ passed: 0, failed: 1 });
});

test('a suite that leaves no readable report is a failure', async () => {
  const unreadable = suite('true', () => Promise.reject(new Error('no report')));
  expect(await runSuite(unreadable)).toMatchObject({ passed: 0, failed: 1 });
});

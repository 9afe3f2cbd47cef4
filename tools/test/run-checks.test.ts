import { expect, test, vi } from 'vitest';
import { runChecks, type Check } from './run-checks.ts';

const check = (name: string, script: string): Check => ({ name, command: ['sh', '-c', script] });

async function report(checks: Check[]): Promise<{ isGreen: boolean; lines: string[] }> {
  const written: string[] = [];
  const spy = vi.spyOn(process.stdout, 'write').mockImplementation((text) => written.push(String(text)) > 0);
  try {
    return { isGreen: await runChecks(checks), lines: written.join('').trimEnd().split('\n') };
  } finally {
    spy.mockRestore();
  }
}

test('every check runs and is reported, whatever the others do', async () => {
  const { isGreen, lines } = await report([check('one', 'exit 1'), check('two', 'exit 1'), check('three', 'true')]);
  expect(isGreen).toBe(false);
  const heads = lines.map((line) => line.replace(/ \(.*/, '')).toSorted();
  expect(heads).toEqual(['FAIL one', 'FAIL two', 'ok   three'].toSorted());
});

test('a failed check shows its output, indented, and what its exit code means', async () => {
  const failing: Check = { ...check('one', 'echo out; echo err >&2; exit 7'), explain: (code) => `code ${code}` };
  const { lines } = await report([failing]);
  expect(lines[0]).toMatch(/^FAIL one \(.* s\): code 7$/);
  expect(lines.slice(1).toSorted()).toEqual(['     | err', '     | out']);
});

test('a check whose program is missing has failed', async () => {
  const { isGreen } = await report([{ name: 'one', command: ['/nonexistent/program'] }]);
  expect(isGreen).toBe(false);
});

test('green checks are one line each', async () => {
  const { isGreen, lines } = await report([check('one', 'echo chatter'), check('two', 'true')]);
  expect(isGreen).toBe(true);
  expect(lines).toHaveLength(2);
});

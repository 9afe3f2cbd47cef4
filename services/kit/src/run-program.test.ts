import { expect, test } from 'vitest';

import { identifyProcess } from './process-identity.ts';
import { ProgramError, runProgram } from './run-program.ts';
import { eventually } from './testkit/eventually.ts';

test('returns what the program prints, given its input', async () => {
  expect(await runProgram('cat', [], { input: 'naïve\n' })).toBe('naïve\n');
});

test('arguments are never read by a shell', async () => {
  expect(await runProgram('printf', ['%s', '$(id); `id` "'])).toBe('$(id); `id` "');
});

test('the environment is what was given and nothing else', async () => {
  expect(await runProgram('/usr/bin/env', [], { env: { A: '1' } })).toBe('A=1\n');
});

test('a failure tells the command, the exit code and what it complained of', async () => {
  const error: unknown = await runProgram('sh', ['-c', 'echo no such slot >&2; exit 3']).catch(
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(ProgramError);
  expect(error).toMatchObject({ exitCode: 3, stderr: 'no such slot\n' });
  expect((error as Error).message).toContain('exit code 3');
});

test('a program that is not there is told by name', async () => {
  await expect(runProgram('wrenn-no-such-program', ['x'])).rejects.toThrow(/wrenn-no-such-program x failed .*ENOENT/);
});

test('a program that exits without reading a megabyte of input is judged by its exit code', async () => {
  expect(await runProgram('true', [], { input: 'x'.repeat(1 << 20) })).toBe('');
});

test('the time limit kills the program and its children, also those that hold its output open', async () => {
  const startMs = Date.now();
  const error: unknown = await runProgram('sh', ['-c', 'sleep 60 & echo $! >&2; exit 0'], { timeoutMs: 300 }).catch(
    (caught: unknown) => caught,
  );
  expect(error).toMatchObject({ message: expect.stringContaining('no end within 300 ms') });
  expect(Date.now() - startMs).toBeLessThan(5000);
  const pid = Number((error as ProgramError).stderr);
  await eventually('the child is gone', () => !identifyProcess(pid));
});

test('an abort kills it and rejects as aborted', async () => {
  const abort = new AbortController();
  const run = runProgram('sleep', ['60'], { signal: abort.signal });
  abort.abort();
  await expect(run).rejects.toMatchObject({ name: 'AbortError' });
  await expect(runProgram('sleep', ['60'], { signal: abort.signal })).rejects.toMatchObject({ name: 'AbortError' });
});

test('endless output is cut off by killing the program', async () => {
  await expect(runProgram('yes', [])).rejects.toThrow('bytes of output');
});

test('a program killed from outside says so', async () => {
  await expect(runProgram('sh', ['-c', 'kill -TERM $$'])).rejects.toThrow('killed by SIGTERM');
});

test('a process without descriptors left is told so, and lives', async () => {
  const script = `
    import { openSync } from 'node:fs';
    import { runProgram } from '@wrenn/kit/run-program';
    await runProgram('true', []);
    try { for (;;) openSync('/dev/null'); } catch {}
    const why = await runProgram('true', []).catch((error) => error.message);
    process.stdout.write(why);
  `;
  const node = [process.execPath, '--input-type=module', '-e', script];
  const said = await runProgram('prlimit', ['--nofile=64', ...node], { env: { PATH: process.env['PATH'] } });
  expect(said).toMatch(/^true failed .*EMFILE/);
});

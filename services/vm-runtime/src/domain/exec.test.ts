import { WrennError } from '@wrenn/kit/errors';
import { expect, test, vi } from 'vitest';

import { type ExecOptions, exec } from './exec.ts';
import { FakeAgent } from '../../test/fakes.ts';

const never = new AbortController().signal;
const options: ExecOptions = {
  command: { command: 'true', args: [], env: {}, cwd: '', user: '' },
  stdin: new Uint8Array(),
  timeoutMs: 60_000,
  maxOutputBytes: 1000,
};
const sequence = 0n;
const stdout = (text: string) => ({ kind: 'stdout' as const, sequence, data: Buffer.from(text) });
const stderr = (text: string) => ({ kind: 'stderr' as const, sequence, data: Buffer.from(text) });
const exited = (exitCode: number) => ({ kind: 'exited' as const, sequence, exitCode, signal: 0 });
const textOf = (bytes: Uint8Array) => Buffer.from(bytes).toString();

test('returns both outputs and the exit code', async () => {
  const agent = new FakeAgent();
  agent.script = [stdout('a'), stderr('x'), stdout('b'), exited(3)];
  const result = await exec(agent, options, never);
  expect([textOf(result.stdout), textOf(result.stderr), result.exitCode]).toEqual(['ab', 'x', 3]);
  expect([result.isTruncated, result.isTimedOut, result.signal]).toEqual([false, false, 0]);
});

test('keeps what came first when the output exceeds the cap, and lets the command go on', async () => {
  const agent = new FakeAgent();
  agent.script = [stdout('abc'), stderr('def'), stdout('ghi'), exited(0)];
  const result = await exec(agent, { ...options, maxOutputBytes: 5 }, never);
  expect([textOf(result.stdout), textOf(result.stderr)]).toEqual(['abc', 'de']);
  expect(result.isTruncated).toBe(true);
  expect(agent.signals).toEqual([]);
});

test('feeds stdin and closes it', async () => {
  const agent = new FakeAgent();
  agent.isEndless = true;
  const running = exec(agent, { ...options, stdin: Buffer.from('hello') }, never);
  await vi.waitFor(() => expect(agent.input).toEqual(['hello', '<eof>']));
  await agent.signal({ pid: 7 }, 15);
  expect((await running).signal).toBe(15);
});

test('judges a command that does not read its stdin by its exit code', async () => {
  const agent = new FakeAgent();
  agent.inputFailure = new WrennError('STDIN_CLOSED', 'closed');
  agent.script = [exited(0)];
  expect((await exec(agent, { ...options, stdin: Buffer.from('x') }, never)).exitCode).toBe(0);
});

test('kills the command at the timeout and still returns its output', async () => {
  const agent = new FakeAgent();
  agent.isEndless = true;
  agent.script = [stdout('partial')];
  const result = await exec(agent, { ...options, timeoutMs: 20 }, never);
  expect([textOf(result.stdout), result.isTimedOut, result.signal]).toEqual(['partial', true, 9]);
  expect(agent.signals).toEqual([9]);
});

test('kills the command when the caller leaves', async () => {
  const agent = new FakeAgent();
  agent.isEndless = true;
  const caller = new AbortController();
  const running = exec(agent, options, caller.signal);
  caller.abort();
  await expect(running).rejects.toMatchObject({ reason: 'CANCELLED' });
  expect(agent.signals).toEqual([9]);
});

test('gives up on a command that does not die of SIGKILL', async () => {
  vi.useFakeTimers();
  try {
    const agent = new FakeAgent();
    agent.isEndless = true;
    agent.isDeafToSignals = true;
    const running = exec(agent, { ...options, timeoutMs: 20 }, never);
    const outcome = expect(running).rejects.toMatchObject({ reason: 'AGENT_UNREACHABLE' });
    await vi.advanceTimersByTimeAsync(16_000);
    await outcome;
  } finally {
    vi.useRealTimers();
  }
});

test('never takes a stream without an end for a success', async () => {
  const agent = new FakeAgent();
  agent.script = [stdout('a')];
  await expect(exec(agent, options, never)).rejects.toMatchObject({ reason: 'AGENT_MISBEHAVED' });
});

test('fails when the input cannot be delivered', async () => {
  const agent = new FakeAgent();
  agent.isEndless = true;
  agent.inputFailure = new WrennError('AGENT_UNREACHABLE', 'gone');
  const running = exec(agent, { ...options, stdin: Buffer.from('x') }, never);
  await expect(running).rejects.toMatchObject({ reason: 'AGENT_UNREACHABLE' });
  expect(agent.signals).toEqual([9]);
});

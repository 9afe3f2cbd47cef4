import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';

import { expect, test } from 'vitest';

import { eventually } from './testkit/eventually.ts';
import { hasEndedWithin, identifyProcess, isRunning, signalProcess } from './process-identity.ts';

async function sleeper(): Promise<ChildProcess & { readonly pid: number }> {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  await new Promise((resolve) => child.once('spawn', resolve));
  return child as ChildProcess & { readonly pid: number };
}

test('a process is itself until it ends', async () => {
  const { pid } = await sleeper();
  const identity = identifyProcess(pid)!;
  expect(identity.startTicks).toBeGreaterThan(0);
  expect(isRunning(identity)).toBe(true);
  expect(await hasEndedWithin(identity, 20)).toBe(false);
  signalProcess(identity, 'SIGKILL');
  expect(await hasEndedWithin(identity, 5000)).toBe(true);
  expect(identifyProcess(pid)).toBeUndefined();
  signalProcess(identity, 'SIGKILL');
});

test('a stranger with the same pid is neither taken for it nor signalled', async () => {
  const child = await sleeper();
  const past = { pid: child.pid, startTicks: identifyProcess(child.pid)!.startTicks - 1 };
  expect(isRunning(past)).toBe(false);
  signalProcess(past, 'SIGKILL');
  expect(identifyProcess(child.pid)).toBeDefined();
  child.kill('SIGKILL');
});

test('a name with spaces and parentheses hides nothing', async () => {
  const child = spawn(process.execPath, [
    '-e',
    'process.title=") R 1 (x"; console.log("set"); setInterval(()=>{},1e6)',
  ]);
  await new Promise((resolve) => child.stdout.once('data', resolve));
  const identity = identifyProcess(child.pid!)!;
  expect(identity.startTicks).toBeGreaterThan(identifyProcess(process.pid)!.startTicks - 1);
  child.kill('SIGKILL');
  expect(await hasEndedWithin(identity, 5000)).toBe(true);
});

test('there is no process with a pid beyond the limit', () => {
  expect(identifyProcess(2 ** 30)).toBeUndefined();
});

test('a process is there until its last thread has ended, whatever became of its first', async () => {
  const script = `
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
print('ready', flush=True)
ctypes.CDLL(None).pthread_exit(None)
`;
  const child = spawn('python3', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const pid = child.pid!;
  await once(child.stdout, 'data');
  await eventually('its first thread is over', () => /^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')));
  const identity = identifyProcess(pid);
  expect(identity).toMatchObject({ pid });
  expect(await hasEndedWithin(identity!, 20)).toBe(false);
  signalProcess(identity!, 'SIGKILL');
  expect(await hasEndedWithin(identity!, 10_000)).toBe(true);
});

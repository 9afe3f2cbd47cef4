import { newSandboxId } from '@wrenn/kit/ids';
import { openLog } from '@wrenn/kit/log';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { ConsoleFiles } from '../adapters/console-files.ts';
import { ConsoleLogs } from './console-logs.ts';

// A console that says what it is given.
function guest() {
  let waiting = '';
  return {
    say: (text: string) => void (waiting += text),
    async takeConsole() {
      const taken = Buffer.from(waiting);
      waiting = '';
      return taken;
    },
  };
}

async function logsIn(path: string) {
  return new ConsoleLogs(new ConsoleFiles(path), openLog('test', 'silent'));
}

test('a follower gets what is stored, what comes, and ends with the VM, last words included', async () => {
  await using dir = await tempDir();
  const consoles = await logsIn(dir.path);
  const [id, machine] = [newSandboxId(), guest()];
  machine.say('before ');
  consoles.add(id, machine);
  const followed = consoles.follow(id, 0, new AbortController().signal);
  const said = async () => {
    const { value } = await followed.next();
    return value && [Buffer.from(value.bytes).toString(), value.nextOffset];
  };
  expect(await said()).toEqual(['before ', 7]);
  machine.say('now ');
  expect(await said()).toEqual(['now ', 11]);
  machine.say('last');
  consoles.remove(id);
  expect(await said()).toEqual(['last', 15]);
  expect(await said()).toBeUndefined();
  expect(Buffer.from(await consoles.tail(id, 8)).toString()).toBe('now last');
});

test('a follower that leaves ends the following', async () => {
  await using dir = await tempDir();
  const consoles = await logsIn(dir.path);
  const id = newSandboxId();
  consoles.add(id, guest());
  const leave = new AbortController();
  const next = consoles.follow(id, 0, leave.signal).next();
  leave.abort();
  expect(await next).toEqual({ done: true, value: undefined });
});

test('a machine that does not answer costs its own console only', async () => {
  await using dir = await tempDir();
  const consoles = await logsIn(dir.path);
  const [dead, live] = [newSandboxId(), newSandboxId()];
  const machine = guest();
  machine.say('alive');
  consoles.add(dead, { takeConsole: () => Promise.reject(new Error('QEMU does not answer')) });
  consoles.add(live, machine);
  consoles.start();
  await expect.poll(async () => Buffer.from(await consoles.tail(live, 100)).toString()).toBe('alive');
  expect(await consoles.tail(dead, 100)).toHaveLength(0);
  await consoles.close();
});

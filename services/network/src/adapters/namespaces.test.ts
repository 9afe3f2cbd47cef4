import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { slotAt } from '../domain/slot.ts';
import { inhabitantsOf } from './namespaces.ts';

// A process of the slot's user that ends when told to, and whose parent never asks how it ended.
const program = `
import os, sys
pid = os.fork()
if pid == 0:
    os.setresuid(${slotAt(20_062).vmmUid}, ${slotAt(20_062).vmmUid}, ${slotAt(20_062).vmmUid})
    print("lives", flush=True)
    sys.stdin.readline()
    os._exit(0)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print("zombie", flush=True)
sys.stdin.read()
`;

test('counts a process of the slot’s user wherever it lives, and no longer once only a zombie is left', async () => {
  const slot = slotAt(20_062);
  expect(inhabitantsOf(slot)).toEqual([]);
  const parent = spawn('python3', ['-c', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    let said = '';
    parent.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    await eventually('the process lives', () => said.includes('lives'));
    expect(inhabitantsOf(slot)).toHaveLength(1);
    parent.stdin.write('\n');
    await eventually('the process has ended', () => said.includes('zombie'));
    expect(inhabitantsOf(slot)).toEqual([]);
  } finally {
    parent.kill('SIGKILL');
    await once(parent, 'exit');
  }
});

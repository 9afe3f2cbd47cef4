import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { newSandboxId } from '@wrenn/kit/ids';
import { openLog } from '@wrenn/kit/log';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { VmJournal } from './vm-journal.ts';

const log = openLog('test', 'silent');

test('gives back what was written last, and nothing once removed', async () => {
  await using dir = await tempDir();
  const journal = new VmJournal(join(dir.path, 'vms'), log);
  const sandboxId = newSandboxId();
  const running = {
    sandboxId,
    createdAtMs: 5,
    phase: 'running',
    guestAddress: '10.11.0.1',
    vmm: { pid: 1, startTicks: 2 },
    accessToken: 'f'.repeat(64),
  } as const;
  await journal.write({ sandboxId, createdAtMs: 5, phase: 'starting' });
  await journal.write(running);
  expect(await new VmJournal(join(dir.path, 'vms'), log).readAll()).toEqual([running]);
  await journal.remove(sandboxId);
  expect(await journal.readAll()).toEqual([]);
});

test('keeps secrets from other users, and reads records of before there were any', async () => {
  await using dir = await tempDir();
  const journal = new VmJournal(dir.path, log);
  const sandboxId = newSandboxId();
  const old = {
    sandboxId,
    createdAtMs: 5,
    phase: 'running',
    guestAddress: '10.11.0.1',
    vmm: { pid: 1, startTicks: 2 },
  };
  await journal.write({ sandboxId, createdAtMs: 5, phase: 'starting' });
  const file = join(dir.path, sandboxId, 'vm.json');
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  await writeFile(file, JSON.stringify(old));
  expect(await journal.readAll()).toEqual([{ ...old, accessToken: '' }]);
});

test('takes a damaged record for a VM that was never finished, so that it is released', async () => {
  await using dir = await tempDir();
  const ids = [newSandboxId(), newSandboxId(), newSandboxId()];
  const contents = ['{"sandboxId":', '{"phase":"running"}'];
  for (const [index, id] of ids.entries()) {
    await mkdir(join(dir.path, id));
    if (contents[index]) await writeFile(join(dir.path, id, 'vm.json'), contents[index]);
  }
  const records = await new VmJournal(dir.path, log).readAll();
  expect(records.map(({ phase }) => phase)).toEqual(['starting', 'starting', 'starting']);
  expect(new Set(records.map(({ sandboxId }) => sandboxId))).toEqual(new Set(ids));
});

import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { type SandboxId, newSandboxId, newSnapshotId } from '@wrenn/kit/ids';
import { openLog } from '@wrenn/kit/log';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { VmJournal } from './vm-journal.ts';

const factsOf = (sandboxId: SandboxId) => ({
  guest: { sandboxId, template: 'minimal', env: { A: 'b' }, defaultUser: '' },
  vcpuCount: 1,
  memoryBytes: 2 ** 28,
  snapshotId: newSnapshotId(),
  guestAddress: '10.11.0.1',
  accessToken: 'f'.repeat(64),
  processes: { vmm: { pid: 1, startTicks: 2 }, memory: 'uffd' as const, pager: { pid: 3, startTicks: 4 } },
});
const log = openLog('test', 'silent');

test('gives back what was written last, and nothing once removed', async () => {
  await using dir = await tempDir();
  const journal = new VmJournal(join(dir.path, 'vms'), log);
  const sandboxId = newSandboxId();
  const running = {
    sandboxId,
    createdAtMs: 5,
    phase: 'running',
    facts: factsOf(sandboxId),
  } as const;
  const frozen = { ...running, phase: 'frozen', order: { snapshotId: newSnapshotId(), keepRunning: true } } as const;
  await journal.write({ sandboxId, createdAtMs: 5, phase: 'starting' });
  for (const record of [running, frozen]) {
    await journal.write(record);
    expect(await new VmJournal(join(dir.path, 'vms'), log).readAll()).toEqual([record]);
  }
  await journal.remove(sandboxId);
  expect(await journal.readAll()).toEqual([]);
});

test('keeps secrets from other users', async () => {
  await using dir = await tempDir();
  const sandboxId = newSandboxId();
  await new VmJournal(dir.path, log).write({ sandboxId, createdAtMs: 5, phase: 'starting' });
  expect((await stat(join(dir.path, sandboxId, 'vm.json'))).mode & 0o777).toBe(0o600);
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

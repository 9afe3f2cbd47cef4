import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { Cgroups } from './cgroups.ts';

const limits = { memoryBytes: 1024, cpuPercent: 150, taskCount: 7 };
const read = (...path: string[]) => readFileSync(join(...path), 'utf8');

// A directory that behaves as cgroupfs does: limit files appear with the group.
function groupWith(dir: string, files: readonly string[]): void {
  mkdirSync(dir);
  for (const file of files) writeFileSync(join(dir, file), '');
}

test('sets the limits of the unified hierarchy for the controllers it grants', async () => {
  await using root = await tempDir();
  writeFileSync(join(root.path, 'cgroup.controllers'), 'cpu memory pids');
  writeFileSync(join(root.path, 'cgroup.subtree_control'), 'memory pids\n');
  groupWith(join(root.path, 'vm'), ['memory.max', 'memory.swap.max', 'cpu.max', 'pids.max']);
  new Cgroups(root.path).create('vm', limits);
  expect(read(root.path, 'vm/memory.max')).toBe('1024');
  expect(read(root.path, 'vm/pids.max')).toBe('7');
  expect(read(root.path, 'vm/cpu.max')).toBe('');
});

test('sets the limits of separate hierarchies', async () => {
  await using root = await tempDir();
  for (const controller of ['memory', 'cpu', 'pids']) groupWith(join(root.path, controller), ['cgroup.procs']);
  groupWith(join(root.path, 'memory/vm'), ['memory.limit_in_bytes', 'cgroup.procs']);
  groupWith(join(root.path, 'cpu/vm'), ['cpu.cfs_period_us', 'cpu.cfs_quota_us']);
  groupWith(join(root.path, 'pids/vm'), ['pids.max']);
  const cgroups = new Cgroups(root.path);
  cgroups.create('vm', limits);
  cgroups.enter('vm', 99);
  expect(read(root.path, 'memory/vm/memory.limit_in_bytes')).toBe('1024');
  expect([read(root.path, 'cpu/vm/cpu.cfs_quota_us'), read(root.path, 'cpu/vm/cpu.cfs_period_us')]).toEqual([
    '150000',
    '100000',
  ]);
  expect(read(root.path, 'memory/vm/cgroup.procs')).toBe('99');
});

test('removes a group, and one that is not there', async () => {
  await using root = await tempDir();
  groupWith(join(root.path, 'pids'), ['cgroup.procs']);
  mkdirSync(join(root.path, 'pids/vm'));
  const cgroups = new Cgroups(root.path);
  await cgroups.remove('vm');
  await cgroups.remove('vm');
  expect(existsSync(join(root.path, 'pids/vm'))).toBe(false);
});

test('bounds a real process on this machine, where it has controllers', async () => {
  const cgroups = new Cgroups();
  const name = `wrenn-test-${process.pid}`;
  cgroups.create(name, { memoryBytes: 64 * 2 ** 20, cpuPercent: 100, taskCount: 10 });
  try {
    const memory = ['/sys/fs/cgroup/memory', '/sys/fs/cgroup'].find((dir) => existsSync(join(dir, name)));
    expect(memory !== undefined || !cgroups.isLimiting).toBe(true);
  } finally {
    await cgroups.remove(name);
    rmSync(join('/sys/fs/cgroup', name), { force: true, recursive: true });
  }
});

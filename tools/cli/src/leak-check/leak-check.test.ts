import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, rmdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { type MeshScope, awaitNoLeftovers, findLeftovers, takeInventory } from './leak-check.ts';
import { isOwnName, isOwnPath, slotOfAddress } from './scope.ts';

function scopeIn(path: string): MeshScope {
  const dirs = { runDir: join(path, 'run'), dataDir: join(path, 'data'), ramDir: join(path, 'ram') };
  return { ...dirs, firstSlot: 32_000, lastSlot: 32_001 };
}

test('leftovers are what is there now and was not before, kind by kind', () => {
  const before = new Map([['disk', new Set(['a'])]]);
  const after = new Map([
    ['disk', new Set(['a', 'b'])],
    ['process', new Set(['7 qemu'])],
  ]);
  expect(findLeftovers(before, after)).toEqual(['disk: b', 'process: 7 qemu']);
  expect(findLeftovers(after, before)).toEqual([]);
  expect(findLeftovers(undefined, before)).toEqual(['disk: a']);
});

test('finds a process, a socket, guest memory and a disk that were left behind, and only those', async () => {
  await using dir = await tempDir();
  const scope = scopeIn(dir.path);
  for (const path of [
    scope.runDir,
    scope.ramDir,
    join(scope.dataDir, 'store/disks/cl-1'),
    join(scope.runDir, 'logs'),
  ]) {
    await mkdir(path, { recursive: true });
  }
  const before = await takeInventory(scope);
  expect(findLeftovers(undefined, before)).toEqual([]);

  // A program that bears one of the mesh's paths, as a VMM does.
  const child = spawn('tail', ['-f', '/dev/null', join(scope.dataDir, 'store/disks/cl-1/disk.qcow2')], {
    stdio: 'ignore',
  });
  const server = createServer().listen(join(scope.runDir, 'qmp.sock'));
  await Promise.all([once(server, 'listening'), once(child, 'spawn')]);
  await writeFile(join(scope.ramDir, 'memory'), 'x');
  await writeFile(join(scope.dataDir, 'store/disks/cl-1/disk.qcow2'), 'x');
  await writeFile(join(scope.runDir, 'logs/a.log'), 'x');
  try {
    const found = await eventually('the process shows its arguments', async () => {
      const leftovers = findLeftovers(before, await takeInventory(scope));
      return leftovers.some((line) => line.startsWith('process: ')) && leftovers;
    });
    expect(found.map((line) => line.replace(/\d+@\d+ /, '').replaceAll(dir.path, ''))).toEqual([
      'process: tail -f /dev/null /data/store/disks/cl-1/disk.qcow2',
      'unix socket: /run/qmp.sock',
      'guest memory: memory',
      'run file: qmp.sock',
      'disk: store/disks/cl-1/disk.qcow2',
    ]);
  } finally {
    child.kill();
    await once(child, 'exit');
    server.close();
  }
  await once(server, 'close');
});

test('waits for what is on its way out and reports what stays', async () => {
  await using dir = await tempDir();
  const scope = scopeIn(dir.path);
  await mkdir(scope.ramDir, { recursive: true });
  const before = await takeInventory(scope);
  await writeFile(join(scope.ramDir, 'memory'), 'x');
  expect(await awaitNoLeftovers(scope, before, 0)).toEqual(['guest memory: memory']);
});

test('finds a cgroup of its own mesh, whoever is in it, and none of another mesh', async () => {
  await using dir = await tempDir();
  const mesh = `wrenn-${randomUUID()}`;
  const scope = { ...scopeIn(dir.path), ramDir: join(dir.path, mesh) };
  const root = existsSync('/sys/fs/cgroup/cgroup.controllers') ? '/sys/fs/cgroup' : '/sys/fs/cgroup/pids';
  const groups = [`${root}/${mesh}-cl-1`, `${root}/wrenn-${randomUUID()}-cl-1`];
  for (const group of groups) mkdirSync(group);
  try {
    expect(findLeftovers(undefined, await takeInventory(scope))).toEqual([`cgroup: ${groups[0]}`]);
  } finally {
    for (const group of groups) rmdirSync(group);
  }
});

test('tells its own slots, addresses and paths from another mesh’s', () => {
  const scope = scopeIn('/tmp/mine');
  expect([isOwnName(scope, 'wrenn-ns-32000'), isOwnName(scope, 'wrenn-ns-3200')]).toEqual([true, false]);
  expect([slotOfAddress('10.11.125.0'), slotOfAddress('10.12.250.1/31'), slotOfAddress('10.13.0.1')]).toEqual([
    32_000,
    32_000,
    undefined,
  ]);
  expect([isOwnPath(scope, '/tmp/mine/run/x'), isOwnPath(scope, '/tmp/mine/runner')]).toEqual([true, false]);
});

// The real process: what it leaves when it is killed, and how it ends.
import { once } from 'node:events';
import { readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { storeEntries, workDir, writeSource } from './store-fixture.ts';
import { spawnStore } from './store-process.ts';

test('a kill -9 half-way through an import leaves only what the next start sweeps', async () => {
  await using dir = await workDir();
  const socket = join(dir.path, 'run', 'store.sock');
  const source = join(dir.path, 'big.raw');
  await runProgram('dd', ['if=/dev/urandom', `of=${source}`, 'bs=1M', 'count=192']);
  const request = { name: 'debian', sourcePath: source };
  {
    await using store = await spawnStore(dir, socket);
    const call = store.client.importImage(request, inMs(20_000));
    const settled = expect(call).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
    await eventually('the copy has begun', async () => {
      const entries = await storeEntries(dir.data);
      return entries.some((entry) => entry.endsWith('rootfs.ext4'));
    });
    store.child.kill('SIGKILL');
    await settled;
  }
  expect(await readdir(join(dir.data, 'images'))).toEqual([]);
  expect(await readdir(join(dir.data, 'tmp'))).toHaveLength(1);
  await using store = await spawnStore(dir, socket);
  expect(await storeEntries(dir.data)).toEqual([]);
  expect((await store.client.listImages({}, inMs(5000))).images).toEqual([]);
  const { image } = await store.client.importImage(request, inMs(20_000));
  expect(image).toMatchObject({ problem: '', isCurrent: true });
  await eventually('the copying program of the first life has ended', async () => {
    const copies = await runProgram('ps', ['-eo', 'args']);
    return !copies.includes(dir.data);
  });
});

test('disks and images survive a kill -9, and the store serves again', async () => {
  await using dir = await workDir();
  const socket = join(dir.path, 'store.sock');
  const sourcePath = await writeSource(join(dir.path, 'a.raw'), 'a');
  const diskId = newSandboxId();
  let before: unknown;
  {
    await using store = await spawnStore(dir, socket);
    await store.client.importImage({ name: 'debian', sourcePath }, inMs(5000));
    await store.client.createDisk({ diskId, image: 'debian' }, inMs(5000));
    before = await store.client.listDisks({}, inMs(5000));
    store.child.kill('SIGKILL');
    await once(store.child, 'exit');
  }
  await using store = await spawnStore(dir, socket);
  expect(await store.client.listDisks({}, inMs(5000))).toEqual(before);
});

test('only its own user can reach the socket, and SIGTERM ends the store cleanly', async () => {
  await using dir = await workDir();
  const socket = join(dir.path, 'run', 'store.sock');
  await using store = await spawnStore(dir, socket);
  expect((await stat(socket)).mode & 0o777).toBe(0o600);
  store.child.kill('SIGTERM');
  const [code] = (await once(store.child, 'exit')) as [number | null];
  expect(code).toBe(0);
  await expect(stat(socket)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('commits stand back for everything else on the host', async () => {
  await using dir = await workDir();
  await using store = await spawnStore(dir);
  const tasks = `/proc/${store.child.pid}/task`;
  const stats = await Promise.all((await readdir(tasks)).map((task) => readFile(join(tasks, task, 'stat'), 'utf8')));
  // Field 19, counted behind the name in parentheses.
  const nices = stats.map((stat) => Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]));
  expect(nices.filter((nice) => nice === 10)).toHaveLength(1);
  expect(new Set(nices)).toEqual(new Set([0, 10]));
});
